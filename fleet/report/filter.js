"use strict";
const form = document.querySelector("form");
const blocks = [...document.querySelectorAll(".block")].map((element) => ({
  element,
  count: -1,
  rows: [...element.children].map((row) => ({
    element: row,
    values: { ...row.dataset },
    backends: row.dataset.backends.split(" "),
    hidden: false,
  })),
}));
const total = blocks.reduce((sum, block) => sum + block.rows.length, 0);
const shown = document.querySelector("output");
const show = () => {
  const wanted = Object.fromEntries(new FormData(form));
  const names = ["status", "type", "kind"].filter((name) => wanted[name]);
  const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
  let all = 0;
  for (const block of blocks) {
    let count = 0;
    for (const row of block.rows) {
      const fits = names.every((name) => row.values[name] === wanted[name])
        && (!wanted.backend || row.backends.includes(wanted.backend))
        && words.every((word) => row.values.text.includes(word));
      if (row.hidden === fits) row.hidden = row.element.hidden = !fits;
      count += fits;
    }
    if (block.count !== count) {
      block.count = count;
      block.element.style.setProperty("--rows", count);
    }
    all += count;
  }
  shown.textContent = `${all} of ${total}`;
};
let timer = 0;
form.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(show, 80); });
form.addEventListener("submit", (event) => event.preventDefault());
show();
