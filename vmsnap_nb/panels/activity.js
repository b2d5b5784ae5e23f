// The log of what was done: each entry opens to its code and its commands, with a button to copy them.

function copyable(words, [label, title, text]) {
  const part = document.createElement("div");
  const name = document.createElement("p");
  const copy = document.createElement("button");
  const code = document.createElement("pre");
  name.textContent = `${label} `;
  copy.type = "button";
  copy.className = "vmsnap-copy";
  copy.textContent = words.copy;
  copy.setAttribute("aria-label", title);
  code.textContent = text;
  copy.addEventListener("click", () => {
    getSelection().selectAllChildren(code); // also shows what was copied; pages without HTTPS have no other way
    copy.textContent = document.execCommand("copy") ? words.copied : words.press;
    setTimeout(() => { copy.textContent = words.copy; }, 2000);
  });
  name.append(copy);
  part.append(name, code);
  return part;
}

function entry(words, { at, head, state, parts }) {
  const line = document.createElement(parts.length ? "summary" : "p");
  const ended = document.createElement("strong");
  ended.textContent = state;
  const clock = new Date(at).toLocaleTimeString(words.language, { timeStyle: "medium" }); // as the reader's has it
  line.append(`${head.replace("{time}", () => clock)} `, ended);
  line.title = `${at.slice(11, 19)} UTC`;
  if (!parts.length) return line;
  const details = document.createElement("details");
  details.append(line, ...parts.map((part) => copyable(words, part)));
  return details;
}

function render({ model, el }) {
  const words = model.get("words");
  const log = document.createElement("div");
  log.className = "vmsnap-log";
  log.setAttribute("role", "group");
  log.setAttribute("aria-label", words.label);
  el.append(log);
  let shown = 0; // how many were told so far

  function draw() {
    const entries = model.get("told");
    const fresh = Math.min(model.get("count") - shown, entries.length);
    if (shown === 0) log.replaceChildren();
    shown = model.get("count");
    if (fresh > 0) log.prepend(...entries.slice(-fresh).reverse().map((one) => entry(words, one))); // those that are there stay open
    while (log.childElementCount > entries.length) log.lastElementChild.remove();
    if (shown === 0) log.textContent = words.empty;
  }

  model.on("change:told", draw);
  draw();
  return () => model.off("change:told", draw);
}

export default { render };
