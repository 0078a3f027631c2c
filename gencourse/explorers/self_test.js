// A self-test: questions one after the other, feedback on every answer, a score at the end.
// Runs with the state alone, no network. Text takes the page's colour, so it follows light and dark themes.

const STYLE = `
  .frame { font: 1rem/1.5 system-ui, sans-serif; margin: 0.5rem 0 1rem; max-width: 42rem; border: 1px solid #8888; border-radius: 0.5rem; padding: 0.8rem 1rem; display: grid; gap: 0.7rem; }
  .top { display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; justify-content: space-between; font-size: 0.9em; opacity: 0.9; }
  fieldset { border: 0; margin: 0; padding: 0; min-width: 0; display: grid; gap: 0.35rem; }
  legend { padding: 0; margin-bottom: 0.6rem; font-weight: 600; }
  legend:focus-visible { outline: none; }
  .option { display: grid; grid-template-columns: auto 1fr; gap: 0.6rem; align-items: baseline; border: 1px solid #8888; border-radius: 0.4rem; padding: 0.4rem 0.7rem; cursor: pointer; }
  .option:has(:checked) { border-color: #2a8cc8; box-shadow: inset 0 0 0 1px #2a8cc8; }
  .option:has(:focus-visible), :is(button, input[type="text"]):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  input { font: inherit; margin: 0; }
  input[type="text"] { color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.6rem; width: 9rem; }
  .buttons { display: flex; flex-wrap: wrap; gap: 0.4rem; }
  button { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.8rem; min-height: 2.1rem; cursor: pointer; }
  button.check { background: #0072b2; border-color: #0072b2; color: #fff; }
  button:disabled { opacity: 0.45; cursor: default; }
  .feedback:not(:empty) { border-left: 4px solid var(--colour); padding: 0.1rem 0 0.1rem 0.8rem; }
  .feedback b { color: inherit; }
  code { font-size: 0.92em; overflow-wrap: anywhere; }
  sub, sup { line-height: 0; }
  .marks { list-style: none; padding: 0; margin: 0; display: grid; gap: 0.2rem; }
`;
const RIGHT = "#008a64", WRONG = "#d55e00", NOTE = "#808080";

// A number as people write it: 0.5, 0,5, -1.4, 1/2, 1e-3; NaN if it is none.
export function parse(text) {
  const clean = text.trim().replace(/[\u2212\u2013]/g, "-").replace(",", ".");
  const number = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i, [top, bottom, ...rest] = clean.split("/").map((t) => t.trim());
  if (rest.length || !number.test(top) || (bottom !== undefined && !number.test(bottom))) return NaN;
  return bottom === undefined ? Number(top) : Number(top) / Number(bottom);
}

// What is said to an answer (an option's index, or a number), and whether it is right.
export function judge(question, given) {
  if (question.options) return { right: given === question.right, why: question.options[given].why };
  const near = (value) => Math.abs(given - value) <= question.within + 1e-9;
  if (near(question.answer)) return { right: true, why: question.why };
  return { right: false, why: (question.mistakes.find(({ value }) => near(value)) ?? { why: question.hint }).why };
}

function make(tag, attributes = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function written(tag, attributes, html) {  // text that Python has marked up
  const element = make(tag, attributes);
  element.innerHTML = html;
  return element;
}

function render({ model, el }) {
  const questions = model.get("questions");
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame", role: "region", "aria-label": "Self-test" });
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  // answers[i]: whether the first answer to question i was right; only that one counts.
  const set = (values) => {
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    model.save_changes();
  };
  const button = (text, action, attributes = {}) => {
    const element = make("button", { type: "button", ...attributes }, [text]);
    element.addEventListener("click", action);
    return element;
  };
  const go = (at, values = {}) => { set({ at, ...values }); show(true); };
  const top = (text) => make("div", { class: "top" }, [make("span", {}, [text]), make("span", {}, [model.get("practice")])]);

  function show(moved) {
    const at = model.get("at");
    if (at >= questions.length) showScore();
    else ask(at);
    if (moved) frame.querySelector("[tabindex='-1']").focus({ preventScroll: true });
  }

  function ask(at) {
    const question = questions[at], first = model.get("answers")[at] ?? null;
    const legend = written("legend", { tabindex: "-1" }, question.text), feedback = make("div", { class: "feedback", role: "status" });
    const inputs = question.options
      ? question.options.map((_, i) => make("input", { type: "radio", name: "answer", value: i }))
      : [make("input", { type: "text", inputmode: "text", autocomplete: "off", "aria-label": "Your answer, a number" })];
    const fields = question.options
      ? question.options.map(({ text }, i) => make("label", { class: "option" }, [inputs[i], written("span", {}, text)]))
      : [make("div", {}, inputs)];
    const next = button(at + 1 < questions.length ? "next question" : "see the score", () => go(at + 1));
    next.disabled = first === null;

    const say = (colour, word, why) => {
      feedback.style.setProperty("--colour", colour);
      feedback.replaceChildren(make("b", {}, [`${word} `]), written("span", {}, why));
    };
    function check() {
      const given = question.options ? inputs.findIndex((input) => input.checked) : parse(inputs[0].value);
      if (question.options ? given < 0 : Number.isNaN(given)) {
        return say(NOTE, "No answer yet.", question.options ? "Choose one of the answers." : "Write a number, such as 0.5, \u22121.2 or 1/3.");
      }
      const { right, why } = judge(question, given), answers = [...model.get("answers")];
      answers[at] = answers[at] ?? right;
      set({ answers: Array.from(answers, (a) => a ?? null) });
      next.disabled = false;
      return say(right ? RIGHT : WRONG, right ? "\u2713 Right." : "\u2717 Not quite.", why);
    }
    const buttons = [button("check", check, { class: "check" }), next];
    if (at) buttons.unshift(button("back", () => go(at - 1)));
    for (const input of inputs) {
      input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); check(); } });
    }
    frame.replaceChildren(
      top(`Question ${at + 1} of ${questions.length}`),
      make("fieldset", {}, [legend, ...fields]), make("div", { class: "buttons" }, buttons), feedback,
    );
  }

  function showScore() {
    const answers = questions.map((_, i) => model.get("answers")[i] ?? null), score = answers.filter((a) => a === true).length;
    const marks = answers.map((a, i) => {
      const [sign, words] = a === null ? ["\u2013", "not answered"] : a ? ["\u2713", "right at once"] : ["\u2717", "not at once"];
      return make("li", {}, [button(`${sign} question ${i + 1}: ${words}`, () => go(i))]);
    });
    frame.replaceChildren(
      top("Score"),
      make("strong", { tabindex: "-1" }, [`${score} of ${questions.length} right at the first try.`]),
      make("ul", { class: "marks" }, marks),
      make("div", { class: "buttons" }, [button("try again", () => go(0, { answers: [] }), { class: "check" })]),
    );
  }

  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());
  const follow = () => show(false);
  model.on("change:at", follow);
  show(false);
  return () => model.off("change:at", follow);
}

export default { render };
