// A list of which one row can be selected: by click, or by Space and the arrow keys, as with any radio buttons. Each row
// has buttons for what can be done with it; what cannot be done now says why.

const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function render({ model, el }) {
  const words = model.get("words");
  const group = `vmsnap-${Math.random()}`; // each widget loads this file anew, so that counting would not tell them apart
  const list = element("div", "vmsnap-list");
  list.setAttribute("role", "radiogroup");
  el.append(list);

  function button(row, action) {
    const made = element("button", "", action.menu ? action.label : action.sign || action.label);
    made.type = "button";
    made.dataset.act = action.name;
    if (action.menu) made.className = "vmsnap-entry";
    else made.className = action.sign ? "vmsnap-sign-button" : "vmsnap-act";
    const label = words.act.replace("{act}", () => action.label).replace("{row}", () => row.title);
    made.setAttribute("aria-label", label);
    made.title = action.why || action.label;
    if (action.why) { // not `disabled`: that would take the focus, and the tooltip, from the reason
      made.setAttribute("aria-disabled", "true");
      made.setAttribute("aria-description", action.why);
      if (action.menu) made.append(element("small", "", action.why));
    }
    made.addEventListener("click", () => {
      made.closest("details")?.removeAttribute("open");
      if (!action.why) model.send({ action: action.name, key: row.key });
    });
    return made;
  }

  // A time as the reader's clock has it, and how long ago that is.
  function time(when) {
    const made = element("time", "vmsnap-cell");
    made.dateTime = when;
    const [day, clock] = [when.slice(0, 10), when.slice(11, 19)];
    made.title = `${day} ${clock} UTC`;
    return tell(made);
  }

  function tell(made) {
    const at = new Date(made.dateTime);
    const local = at.toLocaleString(words.language, { dateStyle: "short", timeStyle: "short" });
    const seconds = (at - Date.now()) / 1000;
    const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? UNITS.at(-1);
    const ago = new Intl.RelativeTimeFormat(words.language, { numeric: "auto" }).format(Math.trunc(seconds / size), unit);
    made.replaceChildren(local, element("small", "", ago));
    return made;
  }

  function menu(row, actions) {
    const made = element("details", "vmsnap-menu");
    const head = element("summary", "", "⋮");
    const label = words.menu.replace("{row}", () => row.title);
    head.setAttribute("aria-label", label);
    head.title = label;
    const entries = element("div", "vmsnap-entries");
    entries.append(...actions.map((action) => button(row, action)));
    made.append(head, entries);
    made.addEventListener("focusout", (event) => {
      if (!made.contains(event.relatedTarget)) made.removeAttribute("open");
    });
    made.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      made.removeAttribute("open");
      head.focus();
      event.stopPropagation();
    });
    return made;
  }

  function item(row) {
    const made = element("div", "vmsnap-item");
    made.dataset.key = row.key;
    const label = element("label");
    const input = element("input");
    input.type = "radio";
    input.name = group;
    input.value = row.key;
    input.setAttribute("data-lm-suppress-shortcuts", "true"); // of Notebook 7, which takes keys before they get here
    input.setAttribute("aria-label", [...new Set([row.title, row.meaning, ...row.notes])].filter(Boolean).join(", "));
    const sign = element("span", `vmsnap-mark ${row.mark ? `vmsnap-${row.mark}` : ""}`, row.sign);
    sign.title = row.meaning;
    sign.setAttribute("aria-hidden", "true"); // the radio button says it
    const text = element("span", "vmsnap-title");
    const name = element("span", "vmsnap-name", row.title);
    name.title = row.title; // it may have more lines than there is room for
    text.append(name);
    label.append(input, sign, text);
    if (row.notes.length) text.append(element("small", "", row.notes.join(" · ")));
    for (const [cell, tip] of row.cells) {
      const part = element("span", "vmsnap-cell", cell);
      if (tip) part.title = tip;
      label.append(part);
    }
    if (row.when) label.append(time(row.when));
    made.append(label);
    made.append(...row.actions.filter((action) => !action.menu).map((action) => button(row, action)));
    const more = row.actions.filter((action) => action.menu);
    if (more.length) made.append(menu(row, more));
    return made;
  }

  const drawn = new Map(); // by key: what a row was drawn from, and its element

  function draw() {
    const at = list.contains(document.activeElement) ? document.activeElement : null;
    const focused = at && { key: at.closest(".vmsnap-item")?.dataset.key, act: at.dataset.act, tag: at.tagName };
    list.setAttribute("aria-label", model.get("label"));
    const rows = model.get("rows");
    if (rows.length === 0) {
      drawn.clear();
      list.replaceChildren(element("p", "", model.get("empty")));
      return;
    }
    // A row that is as it was stays, with its open menu.
    const items = rows.map((row) => {
      const text = JSON.stringify(row);
      const old = drawn.get(row.key);
      return old?.text === text ? old : { key: row.key, text, made: item(row) };
    });
    drawn.clear();
    for (const one of items) drawn.set(one.key, one);
    list.replaceChildren(...items.map((one) => one.made));
    mark();
    if (focused?.key === undefined) return;
    const row = drawn.get(focused.key)?.made;
    const same = focused.act && row?.querySelector(`[data-act="${CSS.escape(focused.act)}"]`);
    (same || row?.querySelector(focused.tag === "SUMMARY" ? "summary" : "input"))?.focus();
  }

  function mark() {
    const selected = model.get("value");
    for (const input of list.querySelectorAll("input")) {
      const chosen = input.value === selected;
      const row = input.closest(".vmsnap-item");
      input.checked = chosen;
      row.classList.toggle("vmsnap-chosen", chosen);
      if (!chosen) continue;
      list.scrollTop = Math.min(list.scrollTop, row.offsetTop);
      list.scrollTop = Math.max(list.scrollTop, row.offsetTop + row.offsetHeight - list.clientHeight);
    }
  }

  function select(key) {
    model.set("value", model.get("value") === key ? null : key); // once more gives up, as in the figure
    model.save_changes();
    mark();
  }

  list.addEventListener("click", (event) => {
    if (event.target.matches("input")) select(event.target.value); // a click on the row comes here through its label
  });
  list.addEventListener("keydown", (event) => {
    if (/^Arrow|^ $|^Enter$/.test(event.key)) event.stopPropagation(); // these mean something else to a notebook
    if (event.key !== " " || !event.target.matches("input:checked")) return;
    event.preventDefault(); // of one that is chosen, Space makes no click
    select(event.target.value);
  });

  model.on("change:rows", draw);
  model.on("change:value", mark);
  function count(more) {
    model.set("views", model.get("views") + more);
    model.save_changes();
  }

  count(1);
  draw();
  const clock = setInterval(() => list.querySelectorAll("time").forEach(tell), 20000);
  return () => {
    clearInterval(clock);
    count(-1);
    model.off("change:rows", draw);
    model.off("change:value", mark);
  };
}

export default { render };
