// A table of which one row can be selected: by click, or by Space and the arrow keys, as with any radio buttons.

function render({ model, el }) {
  const group = `vmsnap-${Math.random()}`; // each widget loads this file anew, so that counting would not tell them apart
  const box = document.createElement("div");
  box.className = "vmsnap-table";
  box.setAttribute("role", "radiogroup");
  el.append(box);

  function draw() {
    const focused = box.contains(document.activeElement) ? document.activeElement.value : null;
    box.setAttribute("aria-label", model.get("label"));
    const [columns, rows] = [model.get("columns"), model.get("rows")];
    if (rows.length === 0) {
      const nothing = document.createElement("p");
      nothing.textContent = model.get("empty");
      box.replaceChildren(nothing);
      return;
    }
    const table = document.createElement("table");
    const head = table.createTHead().insertRow();
    for (const column of ["", ...columns]) {
      const cell = document.createElement(column ? "th" : "td"); // above the buttons stands nothing
      if (column) cell.scope = "col";
      cell.textContent = column;
      head.append(cell);
    }
    const body = table.createTBody();
    for (const [key, ...cells] of rows) {
      const row = body.insertRow();
      const input = document.createElement("input");
      input.type = "radio";
      input.name = group;
      input.value = key;
      input.setAttribute("aria-label", cells.filter(Boolean).join(", "));
      row.insertCell().append(input);
      for (const text of cells) {
        const cell = row.insertCell();
        cell.textContent = text;
        cell.classList.toggle("vmsnap-long", /\S{21}/.test(text)); // may be broken anywhere
      }
    }
    box.replaceChildren(table);
    mark();
    if (focused !== null) [...body.querySelectorAll("input")].find((input) => input.value === focused)?.focus();
  }

  function mark() {
    const selected = model.get("value");
    for (const input of box.querySelectorAll("input")) {
      const chosen = input.value === selected;
      const row = input.closest("tr");
      input.checked = chosen;
      row.classList.toggle("vmsnap-chosen", chosen);
      if (!chosen) continue;
      box.scrollTop = Math.min(box.scrollTop, row.offsetTop - box.querySelector("thead").offsetHeight);
      box.scrollTop = Math.max(box.scrollTop, row.offsetTop + row.offsetHeight - box.clientHeight);
    }
  }

  function select(key) {
    model.set("value", model.get("value") === key ? null : key); // once more gives up, as in the figure
    model.save_changes();
    mark();
  }

  box.addEventListener("click", (event) => {
    const input = event.target.closest("tbody tr")?.querySelector("input");
    if (input) select(input.value);
  });
  box.addEventListener("keydown", (event) => {
    if (/^Arrow|^ $/.test(event.key)) event.stopPropagation(); // these mean something else to a notebook
    if (event.key !== " " || !event.target.checked) return;
    event.preventDefault(); // of one that is chosen, Space makes no click
    select(event.target.value);
  });

  model.on("change:rows", draw);
  model.on("change:value", mark);
  draw();
  return () => {
    model.off("change:rows", draw);
    model.off("change:value", mark);
  };
}

export default { render };
