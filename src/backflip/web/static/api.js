// Requests to the server. A change carries the token of the page, so that no other site can make it.
const csrf = document.querySelector("meta[name=csrf]").content;

/** What the server refused, in words; `status` 0 when it could not be reached. */
export class Refusal extends Error {
  constructor(status, what, hint) {
    super(what);
    this.status = status;
    this.hint = hint;
  }
}

/** Send JSON and get JSON. */
export async function send(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: { "content-type": "application/json", "x-csrf-token": csrf },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refusal(0, "offline", null);
  }
  const told = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refusal(response.status, told.error?.what ?? response.statusText, told.error?.hint);
  return told;
}
