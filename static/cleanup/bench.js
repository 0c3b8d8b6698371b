"use strict";

// A green light that was not confirmed for two minutes is none: the server may be down, or the tablet offline.
(() => {
  const PATIENCE = 120_000;
  const word = () => document.querySelector("#bench .word").textContent;
  let heard = Date.now();
  let said = word();

  const doubt = (silent) => {
    document.getElementById("silence").hidden = !silent;
    document.getElementById("bench").hidden = silent;
  };

  const check = () => {
    if (Date.now() - heard > PATIENCE) doubt(true);
  };

  document.addEventListener("htmx:afterSwap", () => {
    heard = Date.now();
    doubt(false);
    if (word() === said) return;
    said = word();
    document.getElementById("announce").textContent = said;
  });
  setInterval(check, 5_000);
  document.addEventListener("visibilitychange", check);
  window.addEventListener("pageshow", ({ persisted }) => {
    if (persisted) location.reload();
  });
})();
