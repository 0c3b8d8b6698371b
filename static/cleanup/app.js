"use strict";

// What htmx leaves to us: the dialog and its focus, a word to screen readers, and a word when the server is silent.
(() => {
  const phases = new Map();

  // A closed dialog gives the focus back to its button; where the button has gone, the run's own link takes it.
  const open = (dialog) => {
    dialog.addEventListener("close", () => {
      document.getElementById("slot").replaceChildren();
      if (document.activeElement === document.body) {
        document.getElementById(`${dialog.dataset.row}-link`)?.focus();
      }
    });
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.showModal();
    dialog.querySelector("[tabindex]").focus();
  };

  const announce = (element) => {
    if (phases.get(element.id) === element.dataset.phase) return;
    phases.set(element.id, element.dataset.phase);
    const name = element.querySelector(".leaf");
    const verdict = element.querySelector(".verdict");
    document.getElementById("announce").textContent = `${name.textContent}: ${verdict.textContent}`;
  };

  document.addEventListener("htmx:load", ({ detail: { elt } }) => {
    if (elt instanceof HTMLDialogElement) open(elt);
    else if (elt.dataset?.phase !== undefined) announce(elt);
  });

  // Filters that are not set have no place in an address that people share.
  document.addEventListener("htmx:configRequest", ({ detail: { verb, parameters } }) => {
    if (verb !== "get") return;
    for (const [name, value] of Object.entries(parameters)) if (value === "") delete parameters[name];
  });

  document.addEventListener("htmx:afterRequest", ({ detail: { elt, successful } }) => {
    const trouble = document.getElementById("trouble");
    const dialog = elt.closest("dialog");
    if (dialog && elt.matches("form")) dialog.close();
    trouble.hidden = successful;
    if (!successful) {
      trouble.textContent = "The server did not answer as it should. What you see may be old: reload the page.";
    }
  });
})();
