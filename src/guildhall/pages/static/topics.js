// The tree of topics: dragged by a pointer, or moved by a menu where there is none.

// The script of every page, under the address that this page names.
const { $$, call, keepPlace, say } = await import(document.querySelector("script[data-main]").src);

const tree = document.querySelector("[data-tree]");

// Put a topic into a list before another one, or at its end; the answer shows in the page as it is then.
async function put(topic, list, before) {
  const siblings = [...list.children].filter((each) => each !== topic);
  siblings.splice(before ? siblings.indexOf(before) : siblings.length, 0, topic);
  const parent_id = list.closest("[data-topic]")?.dataset.topic ?? null;
  const operations = siblings.map((each, position) => ({
    topic_id: each.dataset.topic, position, ...(each === topic ? { parent_id } : {}),
  }));
  try {
    await call(`POST /v1/topics/reorder?hub_id=${tree.dataset.tree}`, { operations });
  } catch (error) {
    if (error instanceof Error) throw error;
    say(error.detail);
    return;
  }
  keepPlace();
  location.reload();
}

let dragged = null;

// Where a topic would go that is dropped here: before a row, after it, or under it.
function place(event) {
  const row = dragged && event.target.closest(".topic");
  const topic = row?.parentElement;
  if (!topic || dragged.contains(topic)) return null;
  const { top, height } = row.getBoundingClientRect();
  const part = (event.clientY - top) / height;
  return { topic, where: part < 0.3 ? "before" : part > 0.7 ? "after" : "under" };
}

function show(found) {
  for (const each of $$("[data-drop]", tree)) delete each.dataset.drop;
  if (found) found.topic.dataset.drop = found.where;
}

tree?.addEventListener("dragstart", (event) => {
  dragged = event.target.closest("[data-topic]");
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", dragged.dataset.topic);
});
tree?.addEventListener("dragover", (event) => {
  const found = place(event);
  if (found) event.preventDefault();
  show(found);
});
tree?.addEventListener("dragend", () => { dragged = null; show(null); });
tree?.addEventListener("drop", (event) => {
  const found = place(event);
  if (!found) return;
  event.preventDefault();
  const { topic, where } = found;
  if (where === "under") put(dragged, topic.querySelector(".branch"));
  else put(dragged, topic.parentElement, where === "before" ? topic : topic.nextElementSibling);
});

tree?.addEventListener("click", (event) => {
  const step = Number(event.target.closest("[data-step]")?.dataset.step);
  if (!step) return;
  const topic = event.target.closest("[data-topic]");
  const other = step < 0 ? topic.previousElementSibling : topic.nextElementSibling;
  if (other) put(topic, topic.parentElement, step < 0 ? other : other.nextElementSibling);
});
