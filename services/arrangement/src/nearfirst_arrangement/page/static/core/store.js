/** Values that many components watch. */
import { useEffect, useState } from "./ui.js";

/**
 * @template T
 * @typedef {{get: () => T, set: (value: T) => void, subscribe: (listener: (value: T) => void) => () => void}} Store
 */

/**
 * A value with listeners. `subscribe` answers with what ends the subscription.
 * @template T
 * @param {T} value
 * @returns {Store<T>}
 */
export function makeStore(value) {
  const listeners = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const listener of [...listeners]) listener(value);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/**
 * The store's value; the component draws itself again when it changes.
 * @template T
 * @param {Store<T>} store
 * @returns {T}
 */
export function useStore(store) {
  const [value, setValue] = useState(store.get());
  useEffect(() => {
    setValue(store.get()); // it may have changed between the first draw and now
    return store.subscribe(setValue);
  }, [store]);
  return value;
}
