"""Cooking: ingredients and steps of simple dishes."""

from nearfirst.data.bundled.task import NAMES, NUMBER_WORDS, Draw, Row, Task

_DISHES = (
    ("tomato soup", ("tomatoes", "onions", "garlic", "basil"), "simmer them in broth", "serve it with warm bread"),
    ("apple pie", ("apples", "butter", "flour", "cinnamon"), "bake it until golden", "serve it with cream"),
    ("vegetable curry", ("carrots", "potatoes", "coconut milk", "ginger"), "stir in the spices", "serve it with rice"),
    ("mushroom omelette", ("eggs", "mushrooms", "cheese", "parsley"), "fry it in the pan", "fold it on a plate"),
    ("lentil stew", ("lentils", "celery", "carrots", "cumin"), "boil it until soft", "season it with lemon"),
    ("fish tacos", ("white fish", "cabbage", "limes", "tortillas"), "grill the fish", "fill the warm tortillas"),
    ("potato salad", ("potatoes", "pickles", "mustard", "chives"), "mix it in a bowl", "chill it for an hour"),
    (
        "cheese dumplings",
        ("flour", "eggs", "cottage cheese", "dill"),
        "cook them in salted water",
        "toss them in butter",
    ),
    ("berry pancakes", ("flour", "milk", "eggs", "blueberries"), "fry them in butter", "serve them with honey"),
    (
        "stuffed peppers",
        ("peppers", "rice", "minced beef", "onions"),
        "bake them in the oven",
        "serve them with yogurt",
    ),
)


def _missing_ingredient(draw: Draw) -> Row:
    dish, ingredients, _, _ = draw.one(_DISHES)
    missing, *others = draw.some(ingredients, 4)
    name, guests = draw.one(NAMES), NUMBER_WORDS[draw.number(2, 9)]
    return Row(
        f"{name} wants to cook {dish} for {guests} guests. The recipe asks for {', '.join(sorted(ingredients))}. "
        f"In the kitchen there are only {others[0]}, {others[1]} and {others[2]}. Which ingredient is missing?",
        (f"The recipe for {dish} still needs {missing}.",),
    )


def _next_step(draw: Draw) -> Row:
    dish, ingredients, step, finish = draw.one(_DISHES)
    first, second = draw.some(ingredients, 2)
    name = draw.one(NAMES)
    return Row(
        f"{name} is cooking {dish} and has already prepared the {first} and the {second}. "
        "What are the next two steps in the kitchen?",
        (f"For the {dish}, {step} and {finish}.",),
    )


def _shopping_list(draw: Draw) -> Row:
    dish, ingredients, _, finish = draw.one(_DISHES)
    name, guests = draw.one(NAMES), NUMBER_WORDS[draw.number(2, 9)]
    first, second, third, fourth = draw.some(ingredients, 4)
    return Row(
        f"{name} invites {guests} people for dinner and wants to make {dish}, but the fridge is empty. "
        "Write the shopping list with all ingredients and say how to serve the dish.",
        (f"For the {dish}, buy {first}, {second}, {third} and {fourth}, and {finish}.",),
    )


def _finish_recipe(draw: Draw) -> Row:
    dish, ingredients, step, finish = draw.one(_DISHES)
    first, second, third = draw.some(ingredients, 3)
    guests = NUMBER_WORDS[draw.number(2, 9)]
    return Row(
        f"Here is a recipe card without its last line. {dish.capitalize()} for {guests} people: take {first}, {second} "
        f"and {third}, wash and chop them. Write the last line of the recipe.",
        (f"For the {dish}, {step} and {finish}.", f"Then {step} and {finish}."),
    )


TASKS = (
    Task("cooking_missing_ingredient", "cooking", "train", _missing_ingredient),
    Task("cooking_next_step", "cooking", "train", _next_step),
    Task("cooking_shopping_list", "cooking", "train", _shopping_list),
    Task("cooking_finish_recipe", "cooking", "test", _finish_recipe),
)
