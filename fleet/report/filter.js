"use strict";
const form = document.querySelector("form");
const rows = [...document.querySelectorAll(".row[data-text]")];
const shown = document.querySelector("output");
const show = () => {
  const wanted = Object.fromEntries(new FormData(form));
  const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const fits = ["status", "type", "kind"].every((name) => !wanted[name] || row.dataset[name] === wanted[name])
      && (!wanted.backend || row.dataset.backends.split(" ").includes(wanted.backend))
      && words.every((word) => row.dataset.text.includes(word));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = `${count} of ${rows.length}`;
};
let timer = 0;
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, 80); });
form.addEventListener("submit", (event) => event.preventDefault());
show();
