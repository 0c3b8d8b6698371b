"use strict";

// What htmx leaves to us: dialogs and their focus, a word to screen readers, a word when the server is silent, the keys.
(() => {
  // A page that a browser has kept aside may show what was so once, to a person who has signed out since.
  window.addEventListener("pageshow", ({ persisted }) => {
    if (persisted) location.reload();
  });

  // The answer to a form is kept nowhere, so Back would ask whether to send the form again. Its address asks anew.
  if (document.body.dataset.posted !== undefined) history.replaceState(history.state, "", location.href);

  const phases = new Map();
  const since = new Map();
  const polls = (elt) => (elt.getAttribute?.("hx-trigger") ?? "").startsWith("every ");
  const byId = (id) => document.getElementById(id);
  const say = (words) => { byId("announce").textContent = words; };

  // A closed dialog gives the focus back to its button; where the button has gone, the run's own link takes it.
  const open = (dialog) => {
    dialog.addEventListener("close", () => {
      if (!dialog.isConnected) return; // another question has taken its place
      byId("slot").replaceChildren();
      if (document.activeElement === document.body) byId(`${dialog.dataset.row}-link`)?.focus();
    });
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.showModal();
    dialog.querySelector("[tabindex]").focus();
  };

  // A dialog that is part of the page.
  const show = (dialog) => {
    dialog?.showModal();
    dialog?.querySelector("[tabindex]").focus();
  };

  // A row says that it has come to another verdict, or its clear to another phase; not each file that goes.
  const announce = (element) => {
    const stands = `${element.dataset.phase} ${element.className}`;
    const before = phases.get(element.id);
    phases.set(element.id, stands);
    if (before === stands || (before === undefined && element.dataset.phase === "")) return;
    const name = element.querySelector(".leaf");
    const verdict = element.querySelector(".verdict");
    say(`${name.textContent}: ${verdict.textContent}`);
  };

  const remember = (within) => {
    for (const row of within.querySelectorAll("tr[data-run]")) {
      phases.set(row.id, `${row.dataset.phase} ${row.className.replace(/ ?htmx-\S+/g, "")}`);
    }
  };

  // What was picked on the server, too, as by "select all", is ticked in the list.
  const tick = (bar) => {
    say(bar.dataset.said);
    if (bar.dataset.picked === undefined) return;
    const picked = new Set(bar.dataset.picked.split(","));
    for (const box of document.querySelectorAll("input[name=run]")) box.checked = picked.has(box.value);
  };

  document.addEventListener("htmx:load", ({ detail: { elt } }) => {
    if (elt instanceof HTMLDialogElement) open(elt);
    else if (elt.dataset?.phase !== undefined) announce(elt);
    else if (elt.dataset?.said !== undefined) tick(elt);
    else if (elt.querySelectorAll) remember(elt);
  });

  // What a person has to read next, where an answer has taken the place of the form that was sent.
  document.addEventListener("htmx:load", ({ detail: { elt } }) => elt.querySelector?.("[data-focus]")?.focus());

  document.addEventListener("htmx:configRequest", (event) => {
    const { elt, verb, parameters } = event.detail;
    if (verb !== "get") return;
    // Filters that are not set have no place in an address that people share.
    for (const [name, value] of Object.entries(parameters)) if (value === "") delete parameters[name];
    if (!polls(elt)) return;
    // A hidden page does not ask; it asks when it is shown again.
    if (document.hidden) event.preventDefault();
    // What the server has told this element last, else the page: while nothing has changed, it answers with nothing.
    parameters.since = since.get(elt.id) ?? document.body.dataset.since ?? "";
    if (elt.id !== "pulse") return;
    parameters.seen = [...document.querySelectorAll("tr[data-seen]")].map((row) => row.dataset.seen).join(",");
  });

  document.addEventListener("htmx:afterRequest", ({ detail: { elt, xhr } }) => {
    const told = xhr.getResponseHeader("Exlab-Since");
    if (told && polls(elt)) since.set(elt.id, told);
  });

  document.addEventListener("visibilitychange", () => {
    const pulse = byId("pulse");
    if (pulse && !document.hidden) htmx.trigger(pulse, "wake");
  });

  document.addEventListener("htmx:afterRequest", ({ detail: { elt, successful, xhr } }) => {
    const trouble = byId("trouble");
    const dialog = elt.closest("dialog");
    if (dialog && elt.matches("form")) dialog.close();
    trouble.hidden = successful;
    if (!successful) {
      trouble.textContent = xhr.getResponseHeader("Exlab-Said")
        ?? "The server did not answer as it should. What you see may be old: reload the page.";
    }
  });

  // The keys. They act on the row in focus, never while the user types, and can be switched off.
  const SWITCH = "exlab-keys";
  const off = () => {
    try {
      return localStorage.getItem(SWITCH) === "off";
    } catch {
      return false;
    }
  };
  const typing = (element) =>
    element.isContentEditable || element.matches("textarea, select, input:not([type=checkbox], [type=radio])");
  const rows = () => [...document.querySelectorAll("table.runs tr[data-run]")];
  const current = () => document.activeElement?.closest("table.runs tr[data-run]");

  const move = (step) => {
    const all = rows();
    const row = all[current() ? Math.min(Math.max(all.indexOf(current()) + step, 0), all.length - 1) : 0];
    row?.querySelector(".leaf").focus({ preventScroll: true, focusVisible: true });
    row?.scrollIntoView({ block: "nearest" });
  };

  const keys = {
    "/": () => byId("filter-q")?.focus(),
    j: () => move(1),
    k: () => move(-1),
    o: () => current()?.querySelector(".leaf").click(),
    x: () => current()?.querySelector("input[name=run]")?.click(),
    c: () => (current() ? current().querySelector(".clear") : byId("clear-picks"))?.click(),
    h: () => current()?.querySelector(".hold")?.click(),
    "?": () => show(byId("keys")),
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    if (!Object.hasOwn(keys, event.key) || typing(event.target) || off()) return;
    if (document.querySelector("dialog[open]")) return;
    event.preventDefault();
    keys[event.key]();
  });

  // On a phone the places stand in a line of their own: the one where we are is in sight.
  document.addEventListener("DOMContentLoaded", () => {
    const line = document.querySelector(".places");
    const here = line?.querySelector("[aria-current]");
    if (here) line.scrollLeft = here.offsetLeft - line.clientWidth / 2;
  });

  document.addEventListener("DOMContentLoaded", () => {
    const dialog = byId("keys");
    if (!dialog) return;
    const box = byId("keys-on");
    box.checked = !off();
    box.addEventListener("change", () => localStorage.setItem(SWITCH, box.checked ? "on" : "off"));
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
  });

  // What the user has unfolded stays so when the part of the page around it comes anew.
  let unfolded = [];
  document.addEventListener("htmx:beforeSwap", () => {
    unfolded = [...document.querySelectorAll("details[id][open]")].map(({ id }) => id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of unfolded) byId(id)?.setAttribute("open", "");
  });

  document.addEventListener("click", ({ target }) => {
    const opener = target.closest?.("[data-open]");
    if (opener) show(byId(opener.dataset.open));
    if (target.closest?.("[data-print]")) window.print();
  });
})();
