// What pages need of a script. Every change is a call of the documented API, described by the page:
//
//   <form method="dialog" data-call="POST /api/communities" data-then="/c/{slug}">     fields by name become the JSON body
//   <button data-call="DELETE /api/posts/…" data-confirm="…" data-then="reload" data-body='{"a":1}'>
//
// data-hub is the hub that it is about, where the address does not say. A field with data-commas is a list of
// words with commas between them. The method keeps a browser from sending the fields itself while there is no script.
// data-then is "reload", "remove" (of the nearest [data-item]), "none", or a path with {fields} of the
// answer. data-goes is a path that the page was given: it is followed as it stands, since a field filled
// into it could carry a secret of the answer to wherever somebody's link says.
// Refusals are shown at the fields they are about. Words come from <body data-words>.

const words = JSON.parse(document.body.dataset.words || "{}");
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

// --- Calls -----------------------------------------------------------------------------------------------

async function call(what, body, hub) {
  const [method, path] = what.split(" ");
  const options = { method, headers: { Accept: "application/json" }, credentials: "same-origin" };
  if (method !== "GET" && method !== "DELETE") {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  } else if (body && Object.keys(body).length) {
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  if (hub) options.headers["X-Hub-ID"] = hub;
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw { detail: words.offline };
  }
  const text = await answer.text();
  const type = answer.headers.get("Content-Type") || "";
  const json = text && type.includes("json") ? JSON.parse(text) : null;
  if (answer.ok) return json && "data" in json && path.startsWith("/v1/") ? json.data : json;
  if (answer.status === 401 && !path.startsWith("/api/auth/")) {
    keepDrafts();
    location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
    return new Promise(() => {});
  }
  // Both surfaces' refusals in one shape: what to say, and the fields that are to blame.
  const error = json?.error ?? json ?? {};
  throw {
    status: answer.status,
    code: error.code,
    detail: [error.detail || error.message || words.failed, ...(error.details?.spaces ?? []).map((each) => each.name)]
      .join(" · "),
    errors: error.errors || error.details?.errors || [],
    requestId: answer.headers.get("X-Request-Id"),
    what,
    body,
  };
}

function follow(answer, element) {
  const { then, goes, said } = element.dataset;
  if (said && (then === "none" || then === "remove")) say(said);
  if (goes) return go(goes);
  if (then === "none") return;
  if (then === "remove") {
    const item = element.closest("[data-item]");
    const next = item?.nextElementSibling || item?.previousElementSibling;
    item?.remove();
    // An empty list says that it is empty, which is the page's to say.
    if (!next) return location.reload();
    next.tabIndex = -1;
    next.focus();
    return;
  }
  if (said) sessionStorage.setItem("said", said);
  if (!then || then === "reload") {
    keepPlace();
    location.reload();
    return;
  }
  go(then.replace(/\{(\w+(?:\.\w+)*)\}/g, (_, path) =>
    encodeURIComponent(path.split(".").reduce((value, name) => value?.[name], answer) ?? "")));
}

function go(path) {
  const to = new URL(path, location.href);
  location.assign(to.origin === location.origin ? to : "/");
}

// --- Forms -----------------------------------------------------------------------------------------------

function read(form) {
  const body = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || field.type === "file") continue;
    let value;
    if (field.type === "checkbox" && "many" in field.dataset) {
      // Several boxes of one name are a list of those that are ticked; none ticked is no list.
      if (field.checked) (body[field.name] ??= []).push(field.value);
      continue;
    }
    if (field.type === "checkbox") value = field.checked;
    else if (field.type === "radio") { if (!field.checked) continue; value = field.value; }
    else if (field.type === "number") value = field.value === "" ? null : Number(field.value);
    else if ("list" in field.dataset) value = field.value ? field.value.split("\n") : [];
    else if ("commas" in field.dataset) value = field.value.split(",").map((each) => each.trim()).filter(Boolean);
    else value = field.value;
    // An empty optional field is left out, or cleared where the page says that it may be.
    if (value === "" || value === null) {
      if ("clears" in field.dataset) value = null;
      else if (!field.required) continue;
    }
    // A dotted name is a field of an object.
    const path = field.name.split(".");
    const last = path.pop();
    path.reduce((object, name) => (object[name] ??= {}), body)[last] = value;
  }
  return body;
}

function forget(form) {
  for (const note of $$(".field-error", form)) note.remove();
  for (const field of $$("[aria-invalid]", form)) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
  const box = $(".form-error", form);
  if (box) box.textContent = "";
}

function complain(form, error) {
  let first = null;
  const rest = [];
  for (const { pointer, message } of error.errors || []) {
    const path = pointer.replace(/^[/?]/, "").split("/");
    const name = [path.join("."), path[0]].find((each) => form.elements[each]);
    const field = name && form.elements[name];
    if (!field || field.type === "hidden" || !field.closest) { rest.push(message); continue; }
    const note = document.createElement("span");
    note.className = "field-error";
    note.id = `${name}-error`;
    note.textContent = message;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", note.id);
    field.after(note);
    first ??= field;
  }
  const box = $(".form-error", form);
  if (box && (!first || rest.length)) {
    box.textContent = rest.length ? rest.join(" ") : error.detail;
    // Where there is but one thing to fill in, it is that.
    const [only, ...others] = $$("input:not([type=hidden]), textarea, select", form);
    if (!first && only && !others.length) first = only;
    if (!first) { box.tabIndex = -1; first = box; }
  } else if (!box && !first) say(error.detail);
  first?.focus();
  form.dispatchEvent(new CustomEvent("refused", { detail: error, bubbles: true }));
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.call) return;
  event.preventDefault();
  if (form.getAttribute("aria-busy") === "true") return;
  forget(form);
  const question = $("option:checked[data-confirm]", form)?.dataset.confirm ?? form.dataset.confirm;
  if (question && !(await ask(question))) return;
  form.setAttribute("aria-busy", "true");
  try {
    const body = { ...JSON.parse(form.dataset.body || "{}"), ...read(form) };
    const what = form.dataset.call.replace(/\{(\w+)\}/g, (_, name) => {
      const value = body[name];
      delete body[name];
      return encodeURIComponent(value);
    });
    const answer = await call(what, body, form.dataset.hub);
    form.dispatchEvent(new CustomEvent("done", { detail: answer, bubbles: true }));
    follow(answer, form);
  } catch (error) {
    if (error instanceof Error) throw error;
    complain(form, error);
  } finally {
    form.removeAttribute("aria-busy");
  }
});

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-call]");
  if (!button || button.disabled) return;
  event.preventDefault();
  if (button.dataset.confirm && !(await ask(button.dataset.confirm, button.textContent))) return;
  button.disabled = true;
  try {
    const answer = await call(button.dataset.call, JSON.parse(button.dataset.body || "null"));
    button.dispatchEvent(new CustomEvent("done", { detail: answer, bubbles: true }));
    follow(answer, button);
  } catch (error) {
    if (error instanceof Error) throw error;
    say(error.detail);
    button.dispatchEvent(new CustomEvent("refused", { detail: error, bubbles: true }));
  } finally {
    button.disabled = false;
  }
});

// What one has written stays when the session has ended, until one is back on the page.
const DRAFTS = "drafts";
const person = $("[data-inbox-count]")?.dataset.inboxCount;

function keepDrafts() {
  const fields = $$("form[data-call]:not([data-auto])").flatMap((form) => [...form.elements]
    .filter((field) => field.name && field.value !== field.defaultValue && field.matches("input:not([type=password], [type=checkbox], [type=radio], [type=file]), textarea"))
    .map((field) => [form.dataset.call, field.name, field.value]));
  if (fields.length) sessionStorage.setItem(DRAFTS, JSON.stringify({ person, path: location.pathname, fields }));
}

function restoreDrafts() {
  const kept = JSON.parse(sessionStorage.getItem(DRAFTS) || "null");
  if (!kept || kept.person !== person || kept.path !== location.pathname) return;
  sessionStorage.removeItem(DRAFTS);
  for (const [what, name, value] of kept.fields) {
    const form = $$("form[data-call]").find((each) => each.dataset.call === what);
    if (!form?.elements[name]) continue;
    form.elements[name].value = value;
    if (name === "attachments") showFiles(form);
    const dialog = form.closest("dialog:not([open])");
    if (dialog) dialog.showModal();
  }
}

// What is shown only once: <form data-reveal="key" data-revealed-in="id">
document.addEventListener("done", (event) => {
  const { reveal, revealedIn } = event.target.dataset;
  if (!reveal) return;
  const shown = document.getElementById(revealedIn);
  for (const each of $$("[data-value]", shown)) each.textContent = event.detail[reveal];
  for (const each of $$("[data-copy]", shown)) each.dataset.copy = event.detail[reveal];
  shown.hidden = false;
  shown.tabIndex = -1;
  shown.focus();
  event.target.hidden = true;
});

// What takes a while: <button data-until="url" data-leads="id"> asks again until the answer has that field.
document.addEventListener("done", (event) => {
  const { until, leads, call: what } = event.target.dataset;
  if (!until) return;
  const link = $("a", document.getElementById(leads));
  const look = async (answer) => {
    if (answer[until]) {
      link.href = answer[until];
      link.parentElement.hidden = false;
      link.focus();
    } else {
      await new Promise((resolve) => setTimeout(resolve, 1500));
      await call(what).then(look, (error) => say(error.detail));
    }
  };
  look(event.detail);
});

// A choice is made by a button, which is there once it is another than before: <form data-choice>
document.addEventListener("change", (event) => {
  const form = event.target.closest("form[data-choice]");
  if (form) $("button", form).hidden = event.target.selectedOptions[0].defaultSelected;
});

// --- Asking and telling ----------------------------------------------------------------------------------

function ask(question, answer) {
  const dialog = document.createElement("dialog");
  const text = document.createElement("p");
  text.textContent = question;
  const row = document.createElement("div");
  row.className = "row";
  const yes = document.createElement("button");
  yes.className = "danger";
  yes.textContent = (answer || words.yes).trim();
  const no = document.createElement("button");
  no.className = "plain";
  no.textContent = words.cancel;
  no.autofocus = true;
  row.append(yes, no);
  dialog.append(text, row);
  text.id = "question";
  dialog.setAttribute("aria-labelledby", "question");
  document.body.append(dialog);
  leaveMenu(document.activeElement);
  dialog.showModal();
  return new Promise((resolve) => {
    yes.onclick = () => dialog.close("yes");
    no.onclick = () => dialog.close();
    dialog.onclose = () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    };
  });
}

function say(text, undo, lasting = Math.max(undo ? 8000 : 4000, text.length * 70)) {
  const toast = document.createElement("div");
  toast.className = "toast";
  toast.append(text);
  if (undo) {
    const button = document.createElement("button");
    button.textContent = words.undo;
    button.onclick = () => { toast.remove(); undo(); };
    toast.append(button);
  }
  $(".toasts").append(toast);
  setTimeout(() => toast.remove(), lasting);
}

// --- Small things ----------------------------------------------------------------------------------------

function dates(root = document) {
  const long = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
  const near = new Intl.RelativeTimeFormat(document.documentElement.lang, { numeric: "auto" });
  for (const time of $$("time[datetime]:not([data-shown])", root)) {
    const moment = new Date(time.dateTime);
    const minutes = (moment - Date.now()) / 60000;
    const [value, unit] = Math.abs(minutes) < 60 ? [minutes, "minute"]
      : Math.abs(minutes) < 1440 ? [minutes / 60, "hour"]
      : [minutes / 1440, "day"];
    time.title = long.format(moment);
    time.textContent = Math.abs(minutes) < 43200 ? near.format(Math.round(value), unit) : long.format(moment);
    time.dataset.shown = "";
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      say(words.copied);
    } catch {
      prompt(words.copy, button.dataset.copy);
    }
  }
  const opener = event.target.closest("[data-opens]");
  if (opener) open(opener);
  const closer = event.target.closest("[data-closes]");
  if (closer) closer.closest("dialog").close();
  for (const menu of $$("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("dialog[open]")) return;
  for (const menu of $$("details.menu[open]")) {
    menu.open = false;
    $("summary", menu).focus();
  }
});

// A dialog, filled with what a call answers where it is about something: <button data-opens="id" data-load="GET …">
async function open(opener) {
  const dialog = document.getElementById(opener.dataset.opens);
  if (opener.dataset.load) {
    let answer;
    try {
      answer = await call(opener.dataset.load);
    } catch (error) {
      return say(error.detail);
    }
    const form = $("form", dialog);
    forget(form);
    for (const field of form.elements) {
      if (!(field.name in answer)) continue;
      field.value = Array.isArray(answer[field.name]) ? answer[field.name].join("commas" in field.dataset ? ", " : "\n") : answer[field.name] ?? "";
    }
    for (const link of $$("[data-file]")) names.set(link.href, link.dataset.file);
    if (form.elements.attachments) showFiles(form);
  }
  leaveMenu(opener);
  dialog.showModal();
}

// Focus comes back to what had it before a dialog, which must not be within a menu that has closed by then.
function leaveMenu(element) {
  const menu = element?.closest("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  $("summary", menu).focus();
}

// The next page of a list comes when its end is near; without a script its link is followed.
const more = (link) => (link.coming ??= load(link));
const ends = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) more(target);
}, { rootMargin: "400px" });

async function load(link) {
  ends.unobserve(link);
  link.setAttribute("aria-busy", "true");
  const answer = await fetch(link.href, { credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok) {
    link.removeAttribute("aria-busy");
    link.coming = null;
    return;
  }
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const list = document.getElementById(link.dataset.more);
  // What was put in meanwhile, or moved here, is there already.
  list.append(...$$(`#${link.dataset.more} > *`, page).filter((each) => !each.id || !document.getElementById(each.id)));
  const next = $(`a[data-more="${link.dataset.more}"]`, page);
  link.parentElement.replaceChildren(...(next ? [next] : []));
  if (next) ends.observe(next);
  dates(list);
}

// Whoever reads far down is there again after a change, with as much of the list as there was.
function keepPlace() {
  const list = $("[data-item]")?.parentElement;
  if (!list?.id || !scrollY) return;
  sessionStorage.setItem("place", JSON.stringify({ url: location.href, list: list.id, count: list.children.length, top: scrollY }));
}

async function restorePlace() {
  const kept = JSON.parse(sessionStorage.getItem("place") || "null");
  sessionStorage.removeItem("place");
  const list = kept?.url === location.href && document.getElementById(kept.list);
  if (!list) return;
  for (let before = -1; before < list.children.length && list.children.length < kept.count - 1;) {
    before = list.children.length;
    const link = $(`a[data-more="${kept.list}"]`);
    if (link) await more(link);
  }
  scrollTo(0, kept.top);
}

// --- Files: <input type="file" data-upload="avatar" data-into="avatarUrl"> --------------------------------

async function upload(file, purpose) {
  const place = await call("POST /api/uploads", {
    filename: file.name, contentType: file.type || "application/octet-stream", sizeBytes: file.size, purpose,
  });
  const sent = await fetch(place.uploadUrl, { method: place.method, headers: place.headers, body: file }).catch(() => null);
  if (!sent?.ok) {
    const problem = await sent?.json().catch(() => null);
    throw { detail: problem?.detail || words.failed };
  }
  return place.url;
}

// What files are called, by their addresses: those of the page, and those that were sent from here.
const names = new Map();

function showFiles(form) {
  const field = form.elements.attachments;
  const urls = field.value ? field.value.split("\n") : [];
  $("[data-files]", form).replaceChildren(...urls.map((url) => {
    const item = document.createElement("li");
    const name = names.get(url) ?? url.split("/").pop();
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "×";
    button.setAttribute("aria-label", words.remove.replace("{name}", name));
    button.onclick = () => {
      field.value = urls.filter((each) => each !== url).join("\n");
      showFiles(form);
      $("input[type=file]", form).focus();
    };
    item.append(name, button);
    return item;
  }));
}

async function take(input, files) {
  const form = input.form;
  forget(form);
  form.setAttribute("aria-busy", "true");
  try {
    for (const file of files) {
      const url = await upload(file, input.dataset.upload);
      const field = form.elements[input.dataset.into];
      if ("list" in field.dataset) {
        names.set(url, file.name);
        field.value = field.value ? `${field.value}\n${url}` : url;
        showFiles(form);
      } else {
        field.disabled = false;
        field.value = url;
        const image = $("[data-shows]", form);
        if (image) { image.src = url; image.hidden = false; }
      }
    }
    input.value = "";
  } catch (error) {
    if (error instanceof Error) throw error;
    complain(form, error);
  } finally {
    form.removeAttribute("aria-busy");
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches("input[type=file][data-upload]")) take(event.target, event.target.files);
});
for (const zone of $$(".drop")) {
  const input = $("input[type=file]", zone);
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(input, event.dataTransfer.files);
  });
}

// Markdown as it will look: <button data-preview="field" data-shown-in="id">
async function preview(button) {
  const shown = document.getElementById(button.dataset.shownIn);
  const answer = await call("POST /preview", { content: button.form.elements[button.dataset.preview].value })
    .catch((error) => say(error.detail));
  if (!answer) return;
  const page = new DOMParser().parseFromString(answer.html, "text/html");
  shown.replaceChildren(...page.body.childNodes);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-preview]");
  if (!button) return;
  const shown = document.getElementById(button.dataset.shownIn);
  shown.hidden = !shown.hidden;
  button.setAttribute("aria-expanded", String(!shown.hidden));
  if (!shown.hidden) preview(button);
});
let typing = 0;
document.addEventListener("input", (event) => {
  const button = event.target.form && $("[data-preview][aria-expanded=true]", event.target.form);
  if (!button || button.dataset.preview !== event.target.name) return;
  clearTimeout(typing);
  typing = setTimeout(preview, 400, button);
});

// What a session is called in the list of them.
for (const field of $$("[data-device]")) {
  const named = (names) => names.find(([pattern]) => pattern.test(navigator.userAgent))?.[1];
  const browser = named([[/Edg/, "Edge"], [/OPR/, "Opera"], [/Firefox/, "Firefox"], [/Chrom/, "Chrome"], [/Safari/, "Safari"]]);
  const system = named([[/Windows/, "Windows"], [/Android/, "Android"], [/iPhone/, "iPhone"], [/iPad/, "iPad"], [/Mac OS/, "macOS"], [/Linux/, "Linux"]]);
  field.value = [browser, system].filter(Boolean).join(", ") || field.value;
}

// Signing in in two steps: the address first, then the code that was mailed to it.
const signIn = $("#sign-in");
if (signIn) {
  const [address, code] = $$("form", signIn);
  address.addEventListener("done", () => {
    code.elements.email.value = address.elements.email.value;
    $("[data-address]", code).textContent = address.elements.email.value;
    address.hidden = true;
    code.hidden = false;
    code.elements.code.focus();
  });
  $("[data-again]", code).addEventListener("click", () => {
    code.hidden = true;
    address.hidden = false;
    address.elements.email.focus();
  });
}

// The inbox counts as things happen, and its page shows them. A browser opens few connections to one server,
// so that a stream in every tab would leave none for pages: the tab that holds the lock listens for all.
const inbox = $("[data-inbox-count]");
const events = ["notification.created", "notification.resolved", "notification.updated"];

async function hear() {
  const summary = await call("GET /v1/notifications/summary").catch(() => null);
  if (!summary) return;
  const count = summary.needs_action_pending + summary.updates_unseen;
  inbox.textContent = count > 99 ? "99+" : String(count);
  inbox.hidden = !count;
  const live = $("[data-live]");
  const answer = live && await fetch(location.href, { credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  live.replaceChildren(...$("[data-live]", page).childNodes);
  dates(live);
}

function listen(told) {
  const source = new EventSource(`/v1/events/stream?types=${events}`);
  for (const type of events) source.addEventListener(type, told);
  // What happened before, while nobody listened, is not told again.
  source.addEventListener("ready", () => { if (performance.now() > 5000) told(); });
  return source;
}

if (inbox?.dataset.inboxCount === "") hear();
else if (inbox) {
  const name = `inbox of ${inbox.dataset.inboxCount}`;
  const tabs = new BroadcastChannel(name);
  tabs.onmessage = hear;
  if (navigator.locks) {
    navigator.locks.request(name, () => new Promise((release) => {
      const source = listen(() => { tabs.postMessage(""); hear(); });
      source.addEventListener("error", () => { if (source.readyState === EventSource.CLOSED) release(); });
    }));
  } else {
    // Without https there are no locks: a tab listens while it is looked at.
    let source = null;
    const mind = () => {
      source?.close();
      if (!document.hidden) source = listen(hear);
    };
    document.addEventListener("visibilitychange", mind);
    mind();
  }
}

restoreDrafts();
restorePlace();
if (sessionStorage.getItem("said")) say(sessionStorage.getItem("said"));
sessionStorage.removeItem("said");
for (const form of $$("form[data-auto]")) form.requestSubmit();
for (const link of $$("a[data-more]")) ends.observe(link);
$(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
dates();

export { $, $$, ask, call, keepPlace, say, words };
