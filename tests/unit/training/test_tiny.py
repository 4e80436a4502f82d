from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from nearfirst_training.tiny import make_tiny_llama


def test_the_default_folder_makes_a_million_parameter_model(tmp_path):
    texts = [f"word{number} and thing{number * 7}" for number in range(4000)]
    folder = make_tiny_llama(tmp_path / "m", texts)
    assert not list(folder.glob("*.safetensors"))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert 1e6 <= sum(weight.numel() for weight in model.parameters()) <= 2e6
    assert model.config.vocab_size == len(tokenizer) <= 2048
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<s>", "</s>")
    assert (model.config.bos_token_id, model.config.eos_token_id) == (tokenizer.bos_token_id, tokenizer.eos_token_id)


def test_the_tokenizer_gives_any_text_back(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(make_tiny_llama(tmp_path / "m", ["red river"], vocab_size=300))
    text = "  Ünïcode 漢字 \n\ttabs, and red rivers  "
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_same_texts_make_the_same_files(tmp_path):
    texts = ["red river stone", "blue house sings"] * 20
    first, second = (make_tiny_llama(tmp_path / name, texts, vocab_size=300) for name in "ab")
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {p.name: p.read_bytes() for p in second.iterdir()}
