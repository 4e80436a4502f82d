/** Sending a file with news of how much has arrived, which fetch doesn't have. */
import { Problem, apiUrl } from "../../core/api.js";
import { connection } from "../../core/connection.js";
import { key, keyWanted } from "../../core/key.js";

/**
 * POST a form.
 * @param {string} path
 * @param {FormData} form
 * @param {{onProgress?: (share: number) => void, signal?: AbortSignal}} [options] `share`: of the bytes, from 0 to 1
 * @returns {Promise<any>} the answer
 * @throws {Problem} it says no, or there is none
 */
export function upload(path, form, { onProgress, signal } = {}) {
  return new Promise((resolve, reject) => {
    const sentKey = key.get();
    const request = new XMLHttpRequest();
    request.open("POST", apiUrl(path));
    request.responseType = "json"; // null where it isn't
    if (sentKey !== null) request.setRequestHeader("Authorization", `Bearer ${sentKey}`);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress?.(event.loaded / event.total);
    request.onload = () => {
      connection.answered();
      if (request.status === 200 || request.status === 201) return resolve(request.response);
      const problem = problemOf(request);
      if (request.status === 401 && sentKey === key.get()) keyWanted.set(problem.message);
      return reject(problem);
    };
    request.onerror = () => {
      connection.failed();
      reject(new Problem({ status: 0, title: "The file didn't arrive", detail: "No answer came. Is the API running, and may the file be so large?" }));
    };
    request.onabort = () => reject(new Problem({ status: 0, title: "Cancelled", detail: "Nothing was registered." }));
    signal?.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

function problemOf({ status, statusText, response }) {
  const title = statusText || `HTTP ${status}`;
  return new Problem({ status, title, detail: `The answer was HTTP ${status}, and not one of Nearfirst's.`, ...response });
}
