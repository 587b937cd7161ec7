// Requests to the server. A change carries the token of the page, so that no other site can make it.
const token = document.querySelector("meta[name=csrf]");

/** What the server refused, in words; `status` 0 when it could not be reached. */
export class Refusal extends Error {
  constructor(status, what, hint) {
    super(what);
    this.status = status;
    this.hint = hint;
  }
}

/** Send JSON and get JSON. `options` are those of `fetch`; `patience` milliseconds without an answer are no connection. */
export async function send(method, path, body, { patience, ...options } = {}) {
  const ask = () => request(path, {
    method,
    headers: { "content-type": "application/json", "x-csrf-token": token.content },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal: patience === undefined ? undefined : AbortSignal.timeout(patience),
    ...options,
  });
  let { response, text } = await ask();
  // Whoever has signed in anew, in another window, has a new token.
  if (response.status === 403 && (await renewToken())) ({ response, text } = await ask());
  const told = parsed(text);
  if (!response.ok) throw new Refusal(response.status, told?.error?.what ?? response.statusText, told?.error?.hint);
  if (told === null) throw new Refusal(0, "not from the server", null);
  return told;
}

async function request(path, options) {
  try {
    const response = await fetch(path, options);
    return { response, text: await response.text() };
  } catch {
    throw new Refusal(0, "offline", null);
  }
}

function parsed(text) {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    return null;
  }
}

/** Take up the token that this page would have if it were loaded now; false when it has it already. */
async function renewToken() {
  const { text } = await request(location.pathname, {});
  const found = new DOMParser().parseFromString(text, "text/html").querySelector("meta[name=csrf]")?.content;
  if (!found || found === token.content) return false;
  token.content = found;
  return true;
}
