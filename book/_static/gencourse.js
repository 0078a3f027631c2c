// What a page does once it is there: wide formulas can be scrolled by keys and show that they go on; a link to a formula
// leads to it although its page grows while formulas are set.

const wide = "div.math, article table, div.cell_output pre, div.highlight pre";

function edge(box) {
  const hidden = box.scrollWidth - box.clientWidth;
  box.classList.toggle("goes-on", hidden > 1 && box.scrollLeft < hidden - 1);
}

function measure() {
  for (const box of document.querySelectorAll(`article :is(${wide})`)) {
    const cut = box.scrollWidth > box.clientWidth + 1;
    if (cut && !box.hasAttribute("tabindex")) {
      box.tabIndex = 0;
      box.dataset.scrolls = "";
      if (box.matches("div")) {
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", "formula, wider than the page");
      }
      box.addEventListener("scroll", () => edge(box), { passive: true });
    } else if (!cut && "scrolls" in box.dataset) {
      for (const name of ["tabindex", "data-scrolls", "role", "aria-label"]) box.removeAttribute(name);
    }
    if (box.matches("div.math")) edge(box);
  }
}

window.MathJax?.startup?.promise?.then(() => {
  measure();
  const target = location.hash.startsWith("#eq-") && document.getElementById(location.hash.slice(1));
  if (target) target.scrollIntoView();
});
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  measure();
});
let waiting = 0;
window.addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(measure, 200);
});

// What is folded is printed all the same.
let folded = [];
window.addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("article details:not([open])")];
  for (const part of folded) part.open = true;
});
window.addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
});
