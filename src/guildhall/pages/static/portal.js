// The developer portal: trying a call with one's own session or key, and moving cards on the backlog.

// The script of every page, under the address that this page names.
const { $, $$, ask, say, words } = await import(document.querySelector("script[data-main]").src);

// --- Trying a call ---------------------------------------------------------------------------------------

for (const details of $$("details.try")) details.hidden = false;

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.try) return;
  event.preventDefault();
  const [method, template] = form.dataset.try.split(" ");
  let path = template;
  const query = new URLSearchParams();
  for (const field of $$("[data-where]", form)) {
    if (field.dataset.where === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    else if (field.value) query.set(field.name, field.value);
  }
  if (query.size) path += `?${query}`;
  const headers = {};
  const key = form.elements.Authorization.value.trim();
  if (key) headers.Authorization = `Bearer ${key}`;
  const body = form.elements.body?.value;
  if (body) headers["Content-Type"] = "application/json";
  if (form.dataset.confirm && !(await ask(form.dataset.confirm, form.dataset.try))) return;
  form.setAttribute("aria-busy", "true");
  const outcome = $(".outcome", form);
  const stop = $("[data-stop]", outcome);
  const ending = new AbortController();
  stop.onclick = () => ending.abort();
  try {
    // A path of this server and nothing else, so that neither session nor key can reach another.
    const answer = await fetch(path, {
      method, headers, body: method === "GET" ? undefined : body, credentials: key ? "omit" : "same-origin",
      signal: ending.signal,
    });
    $("[data-status]", outcome).textContent = `${answer.status} ${answer.statusText}`;
    outcome.hidden = stop.hidden = false;
    const text = await listen(answer, $("[data-answer]", outcome));
    $("[data-answer]", outcome).textContent = pretty(text);
    const report = $("[data-report]", outcome);
    report.hidden = answer.ok;
    if (!answer.ok) report.href = reportOf(method, template, path, body, answer, text);
  } catch {
    $("[data-status]", outcome).textContent = words.offline;
    $("[data-answer]", outcome).textContent = "";
  } finally {
    stop.hidden = true;
    outcome.hidden = false;
    form.removeAttribute("aria-busy");
  }
});

// Shows what comes as it comes, for a stream has no end but the one that it is given.
async function listen(answer, shown) {
  let text = "";
  const decoder = new TextDecoder();
  const reader = answer.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read().catch(() => ({ done: true }));
    if (done) break;
    text += decoder.decode(value, { stream: true });
    shown.textContent = text;
  }
  return text;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

// What somebody may see on a public board: the shape of the request, and none of its values.
function redacted(value) {
  if (Array.isArray(value)) return value.map(redacted);
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, redacted(each)]));
  }
  return value === null ? null : `(${typeof value})`;
}

function reportOf(method, template, path, body, answer, text) {
  let sent = "";
  try {
    sent = body ? `\n\nBody: ${JSON.stringify(redacted(JSON.parse(body)))}` : "";
  } catch {
    sent = "\n\nBody: not JSON";
  }
  let code = "";
  try {
    const json = JSON.parse(text);
    code = json.code || json.error?.code || "";
  } catch { /* an answer without a body */ }
  const names = [...new URLSearchParams(path.split("?")[1] || "").keys()].join(", ");
  const description = `Request id: ${answer.headers.get("X-Request-Id")}\nStatus: ${answer.status} ${code}`
    + (names ? `\nParameters: ${names}` : "") + sent;
  return `/backlog?${new URLSearchParams({
    title: `${method} ${template} answers ${answer.status}`.slice(0, 200),
    endpoint: `${method} ${template}`.slice(0, 200),
    description: description.slice(0, 3000),
  })}`;
}

// --- The backlog -----------------------------------------------------------------------------------------

for (const dialog of $$("dialog[data-open]")) dialog.showModal();

// How long what was deleted can be taken back.
const SECOND_THOUGHTS_MS = 15000;

async function patch(id, method, body, more = {}) {
  const answer = await fetch(`/api/backlog/${id}`, {
    method, credentials: "same-origin", ...more,
    headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body),
  }).catch(() => null);
  if (answer?.ok) return true;
  const problem = await answer?.json().catch(() => null);
  say(problem?.detail || words.offline);
  return false;
}

// How many there are is more than are shown.
function count(column, change) {
  if (column) $("[data-count]", column).textContent = Number($("[data-count]", column).textContent) + change;
}

async function move(card, status) {
  if (card.closest("[data-column]").dataset.column === status) return;
  const moved = await patch(card.dataset.card, "PATCH", { status });
  // Where it is now: it may have been moved again while this was under way.
  const from = card.closest("[data-column]");
  if (!moved) {
    $("[data-move]", card).value = from.dataset.column;
    return;
  }
  const to = $(`[data-column="${status}"]`);
  count(from, -1);
  count(to, 1);
  $("[data-move]", card).value = status;
  if (to) $("[data-cards]", to).prepend(card);
  else card.remove();
}

document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-move]")) return;
  const card = event.target.closest("[data-card]");
  move(card, event.target.value).then(() => $("[data-move]", card).focus());
});

let dragged = null;
document.addEventListener("dragstart", (event) => {
  dragged = event.target.closest?.("[data-card]");
  dragged?.classList.add("dragged");
});
document.addEventListener("dragend", () => {
  dragged?.classList.remove("dragged");
  dragged = null;
});
for (const column of $$("[data-column]")) {
  column.addEventListener("dragover", (event) => { if (dragged) { event.preventDefault(); column.classList.add("over"); } });
  column.addEventListener("dragleave", () => column.classList.remove("over"));
  column.addEventListener("drop", (event) => {
    event.preventDefault();
    column.classList.remove("over");
    if (dragged) move(dragged, column.dataset.column);
  });
}

// Deleting waits until it can no longer be undone here; leaving the page does it at once.
const leaving = new Map();
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-drop-item]");
  if (!button) return;
  const card = button.closest("[data-card]");
  const column = card.closest("[data-column]");
  const id = card.dataset.card;
  // Focus goes to the neighbour, as the button it is on goes away.
  const cards = $$("[data-card]:not([hidden])", column);
  const next = cards[cards.indexOf(card) + 1] ?? cards[cards.indexOf(card) - 1];
  card.hidden = true;
  count(column, -1);
  (next ? $("[data-drop-item]", next) : $("h2", column)).focus();
  const back = () => { card.hidden = false; count(column, 1); };
  leaving.set(id, setTimeout(async () => {
    leaving.delete(id);
    if (await patch(id, "DELETE")) card.remove();
    else back();
  }, SECOND_THOUGHTS_MS));
  say(button.dataset.said, () => {
    clearTimeout(leaving.get(id));
    leaving.delete(id);
    back();
    button.focus();
  }, SECOND_THOUGHTS_MS);
});
addEventListener("pagehide", () => {
  for (const [id, timer] of leaving) {
    clearTimeout(timer);
    patch(id, "DELETE", undefined, { keepalive: true });
  }
});
