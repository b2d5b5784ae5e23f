// A terminal on a guest's serial console. terminal.py puts xterm.js before this file, with its class as XtermTerminal.

function render({ model, el }) {
  const words = model.get("words");
  const view = `${Date.now()}-${Math.random()}`;
  let shown = false; // what the guest wrote before this view was there
  let drawing = 0; // pieces of it that are drawn again: what they ask a terminal was answered when they came
  let timer = 0;
  const root = document.createElement("div");
  root.className = "vmsnap-serial";
  root.dataset.lmSuppressShortcuts = "true"; // a key means something else to a notebook
  const hint = document.createElement("p");
  hint.className = "vmsnap-hint";
  hint.setAttribute("role", "status");
  const place = document.createElement("div");
  place.className = "vmsnap-serial-screen";
  const leave = document.createElement("small");
  leave.textContent = words.leave;
  root.append(hint, place, leave);
  el.append(root);

  XtermTerminal.strings.tooMuchOutput = words.much;
  const terminal = new XtermTerminal({
    cols: 80,
    rows: 24,
    fontSize: 13,
    fontFamily: "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace",
    theme: { background: "#1b1f27", foreground: "#e8e8e8", cursor: "#e8e8e8" },
    minimumContrastRatio: 4.5,
    scrollback: 5000,
    screenReaderMode: true,
    linkHandler: { activate() {} }, // a guest opens no page
  });
  terminal.attachCustomKeyEventHandler((event) => !(event.key === "Tab" && event.shiftKey));
  terminal.onData((keys) => drawing || model.send({ keys }));
  terminal.onBinary((binary) => drawing || model.send({ binary }));
  terminal.onResize(({ rows, cols }) => {
    clearTimeout(timer);
    timer = setTimeout(() => model.send({ rows, columns: cols }), 200);
  });

  function fit() {
    const screen = place.querySelector(".xterm-screen");
    if (!model.get("follows") || !screen || !screen.clientWidth) return;
    const style = getComputedStyle(place);
    const across = place.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const down = place.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    const bar = 14; // of scrolling
    const columns = Math.floor((across - bar) / (screen.clientWidth / terminal.cols));
    const rows = Math.floor(down / (screen.clientHeight / terminal.rows));
    if (columns > 1 && rows > 1) terminal.resize(columns, rows);
  }

  function follow() {
    root.classList.toggle("vmsnap-follows", model.get("follows"));
    fit();
  }

  function tell() {
    hint.textContent = model.get("hint");
    hint.hidden = !hint.textContent;
  }

  // It measures letters when it is opened: so not before there is a place for them.
  const observer = new ResizeObserver(() => {
    if (!place.clientWidth) return;
    if (!terminal.element) {
      terminal.open(place);
      terminal.textarea.setAttribute("aria-label", words.label);
      model.send({ ready: view });
      if (model.get("wants_focus")) {
        terminal.focus();
        model.set("wants_focus", false);
        model.save_changes();
      }
    }
    fit();
  });
  observer.observe(place);

  function arrived({ number, to }, buffers) {
    if (to === undefined ? !shown : to !== view) return;
    const data = new Uint8Array(buffers[0].buffer, buffers[0].byteOffset, buffers[0].byteLength);
    if (to !== undefined) {
      shown = true;
      drawing += 1;
      terminal.reset();
    }
    terminal.write(data, () => {
      if (to !== undefined) drawing -= 1;
      model.send({ seen: number });
    });
  }

  for (const kind of ["keydown", "keypress", "keyup"]) {
    root.addEventListener(kind, (event) => event.stopPropagation());
  }
  model.on("msg:custom", arrived);
  model.on("change:follows", follow);
  model.on("change:hint", tell);
  follow();
  tell();
  return () => {
    clearTimeout(timer);
    observer.disconnect();
    model.off("msg:custom", arrived);
    model.off("change:follows", follow);
    model.off("change:hint", tell);
    terminal.dispose();
  };
}

export default { render };
