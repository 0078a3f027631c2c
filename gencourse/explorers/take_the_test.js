// A test of the reader: real or generated? Without limits of time, or for some milliseconds that a staircase chooses. Runs with
// the state alone, and sends nothing. `make` is plane.js's; random numbers, pictures and buttons are those of pixels.js.

const STYLE = `${PIXELS}
  .frame { max-width: 40rem; }
  .frame > * { min-width: 0; }
  .title { font-weight: 600; }
  .asked { display: grid; justify-items: center; gap: 0.6rem; max-width: 24rem; }
  .stage { width: min(15rem, 60vw); outline-offset: 4px; }
  .stage:focus-visible { outline: 3px solid #0072b2; }
  .stage canvas { image-rendering: pixelated; }
  .answers { display: grid; grid-template-columns: 1fr 1fr; gap: 0.6rem; width: 100%; }
  .answers button { min-height: 3rem; }
  button.main { background: #0072b2; border-color: #0072b2; color: #fff; }
  button[aria-disabled=true] { opacity: 0.45; cursor: default; }
  .film { display: grid; grid-template-columns: repeat(auto-fill, minmax(5rem, 1fr)); gap: 0.4rem; }
  .film canvas { max-width: 3.6rem; }
  .film div { font-size: 0.85em; line-height: 1.2; overflow-wrap: anywhere; }
  .examples { display: grid; grid-template-columns: repeat(8, 1fr); gap: 0.3rem; max-width: 24rem; }
  .score { font-size: 1.05em; display: grid; gap: 0.3rem; }
  .score :first-child { font-weight: 600; }
  table { border-collapse: collapse; justify-self: start; font-variant-numeric: tabular-nums; }
  caption { text-align: start; }
  th, td { padding: 0.15rem 0.8rem 0.15rem 0; text-align: start; font-weight: 400; }
  thead th { border-bottom: 1px solid currentColor; }
  .chart { width: 100%; height: 130px; display: block; font-size: 12px; overflow: visible; max-width: 34rem; }
  input[type=text], textarea { font: inherit; color: inherit; background: transparent; border: 1px solid currentColor; border-radius: 0.4rem; padding: 0.3rem 0.5rem; }
  input[type=text] { width: 9rem; min-height: 1.3rem; }
  textarea { width: 100%; box-sizing: border-box; height: 8rem; font-family: ui-monospace, monospace; font-size: 0.85em; }
  summary { cursor: pointer; min-height: 1.8rem; }
  :is(summary, textarea):focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
  .stage:focus:not(:focus-visible), .title:focus { outline: none; }
`;
const TESTS = [["infinity", "as long as I like"], ["time", "for a moment"]];
const PAUSE = 700, LEAST = 350;  // milliseconds before a picture of HYPE-time, and before an answer of the other: nothing flashes three times a second
const GREY = 0.3;  // about how light a digit is on average, so that little flashes

// --- What Python can do too

// n pairs of a model, -1 for real, and the number of a picture among its own; and the real ones left over, last of all first.
export function order(n, reals, fakes, seed) {
  const next = random(seed);
  const shuffled = (items) => {  // Fisher and Yates
    for (let i = items.length - 1; i > 0; i--) {
      const j = Math.floor(next() * (i + 1));
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  };
  const to = (count) => Array.from({ length: count }, (_, i) => i), real = shuffled(to(reals));
  const chosen = real.slice(0, n / 2).map((i) => [-1, i]);
  fakes.forEach((count, k) => chosen.push(...shuffled(to(count)).slice(0, Math.floor((n / 2 + fakes.length - 1 - k) / fakes.length)).map((i) => [k, i])));
  return { pictures: shuffled(chosen), left: real.slice(n / 2) };
}

// The next exposure: longer after an error, shorter after a right answer.
export function after(exposure, right, { up, down, low, high }) {
  return Math.min(high, Math.max(low, exposure + (right ? -down : up)));
}

// How often answers about fakes and about real pictures were wrong, and the mean of both shares; null where none was seen.
export function rates(answers) {
  const of = (kind) => {
    const own = answers.filter((a) => a.kind === kind), wrong = own.filter((a) => a.answer !== kind).length;
    return { wrong, seen: own.length, rate: own.length ? wrong / own.length : null };
  };
  const fakes = of("fake"), reals = of("real");
  return { fakes, reals, rate: fakes.seen && reals.seen ? (fakes.rate + reals.rate) / 2 : null };
}

// The mean exposure of the last answers, or null if there are fewer.
export function settled(answers, last) {
  return answers.length < last ? null : answers.slice(-last).reduce((sum, a) => sum + a.exposure_ms, 0) / last;
}

// The exact interval of a probability after k successes in n trials (Clopper and Pearson): at its ends the tail has 2.5 %.
export function interval(k, n) {
  const choose = [0];  // log of n over i
  for (let i = 1; i <= n; i++) choose.push(choose[i - 1] + Math.log((n - i + 1) / i));
  const atMost = (m, p) => { let sum = 0; for (let i = 0; i <= m; i++) sum += Math.exp(choose[i] + i * Math.log(p) + (n - i) * Math.log1p(-p)); return sum; };
  const where = (m, goal) => {  // the p at which m or fewer have this probability, which falls with p
    let [low, high] = [0, 1];
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      [low, high] = atMost(m, middle) > goal ? [middle, high] : [low, middle];
    }
    return (low + high) / 2;
  };
  return [k ? where(k - 1, 0.975) : 0, k < n ? where(k, 0.025) : 1];
}

// The answers as `gencourse.metrics.answers` reads them, one a line.
export function written(format, test, rater, answers) {
  const rows = answers.map((answer) => JSON.stringify({ ...answer, rater }));
  return `{"format": ${JSON.stringify(format)}, "test": ${JSON.stringify(test)},\n "answers": [\n  ${rows.join(",\n  ")}\n]}\n`;
}

function render({ model, el }) {
  const size = shape(model.get("height"), model.get("width")), top = model.get("levels") - 1, staircase = model.get("staircase");
  const grey = (text) => Array.from(text, (c) => parseInt(c, 36) / top);
  const real = model.get("real"), makers = model.get("fakes"), real_images = real.images.map(grey);
  const inTest = () => makers.map((_, k) => k).filter((k) => !model.get("whose") || makers[k].name === model.get("whose"));
  const calm = window.matchMedia?.("(prefers-reduced-motion: reduce)");
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const title = (name) => makers.find((maker) => maker.name === name).title;

  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame", role: "region", "aria-label": "Real or generated? A test" });
  root.replaceChildren(make("style", {}, [STYLE]), frame);
  let stop = () => {}, key = () => {};  // of what is shown now
  function show(children, focused) {
    stop();
    stop = () => {};
    key = () => {};
    frame.replaceChildren(...children);
    focused?.focus({ preventScroll: true });
  }
  const small = (values, attributes = {}) => {
    const { canvas, paint } = picture(size, { role: "img", ...attributes }, 64);
    paint(values);
    return canvas;
  };
  function set(values) {
    for (const [name, value] of Object.entries(values)) model.set(name, value);
    model.save_changes();
  }
  const drawn = () => {
    const models = inTest(), { pictures, left } = order(model.get("n"), real.images.length, models.map((k) => makers[k].images.length), model.get("seed"));
    return { pictures: pictures.map(([k, i]) => (k < 0 ? { k, i } : { k: models[k], i })), left };
  };

  // --- Before
  function begin(focused = false) {
    const tests = radios(model, "you see a picture", "test", TESTS, (test) => {
      const enough = test === "time" ? model.get("lengths").find((n) => n >= Math.max(model.get("n"), model.get("last"))) : undefined;
      set({ test, n: enough ?? model.get("n") });
      begin();
      frame.querySelector("input:checked").focus();
    });
    const models = make("select", { "aria-label": "Whose samples" }, [["", "samples of all models"], ...makers.map(({ name, title }) => [name, `samples of ${title}`])]
      .map(([value, text]) => make("option", { value }, [text])));
    models.addEventListener("change", () => { set({ whose: models.value }); });
    models.value = model.get("whose");
    const lengths = choice("How many pictures", model.get("lengths").map((n) => [n, `${n} pictures`]), (n) => { set({ n }); begin(); frame.querySelectorAll("select")[1].focus(); });
    lengths.value = model.get("n");
    const examples = make("div", { class: "examples" }, drawn().left.slice(-model.get("examples")).map((i) => small(real_images[i], { "aria-label": "a real digit" })));
    const heading = make("div", { class: "title", tabindex: "-1" }, ["Real or generated?"]);
    const moment = staircase.start === staircase.high ? "" : ` It begins at ${staircase.start} ms; ${staircase.up} ms are added after an error, and ${staircase.down} ms taken away after a right answer.`;
    const still = calm?.matches ? " As your settings ask for less motion, each picture waits until you call it, and what covers it is an even grey; that makes the test easier." : "";
    const words = model.get("test") === "infinity" ? "Each picture stays until you answer (HYPE\u221e)."
      : `Each picture is shown for a moment and then covered by a mask (HYPE-time).${moment} Only ${model.get("last")} answers or more give its score.${still}`;
    tests.show();
    show([
      heading,
      make("div", {}, ["Half of the pictures are digits that people wrote, half are samples of a model. Say which. Real ones look like this:"]),
      examples, tests.element,
      make("div", { class: "row" }, [models, lengths, button("start", () => ask(), { class: "main" })]),
      make("div", { class: "help" }, [`${words} The score comes at the end. Nothing that you do here leaves your browser. The test is one of the eye: there is no way to take it without seeing the pictures.`]),
    ], focused ? heading : null);
  }

  // --- The pictures, one after the other
  function ask() {
    const { pictures } = drawn(), test = model.get("test"), timed = test === "time", answers = [];
    const shuffle = random((model.get("seed") + 1) % 2 ** 32);  // for masks
    const { canvas, paint } = picture(size, { "aria-hidden": "true" }, 320);
    const stage = make("div", { class: "stage", tabindex: "-1", role: "img", "aria-label": "the picture" }, [canvas]);
    const told = make("output", { "aria-live": "polite" });
    const say = { real: button("real (R)", () => answer("real")), fake: button("generated (G)", () => answer("fake")) };
    const call = button("show the picture (space)", () => expose());
    const halt = button("stop here", () => finish());
    let exposure = staircase.start, state = "answer", since = 0, frames = 0, timer = 0, late = 0;
    const even = () => Array.from({ length: size.width * size.height }, () => GREY);
    const cross = () => paint(even(), (i) => Math.floor(i / size.width) === size.height >> 1 && i % size.width === size.width >> 1 && "frame");
    const image = ({ k, i }) => (k < 0 ? real_images[i] : grey(makers[k].images[i]));
    function mask() {  // the greys of some real picture, in any order
      if (calm?.matches) return paint(even());
      const values = [...real_images[Math.floor(shuffle() * real_images.length)]];
      for (let i = values.length - 1; i > 0; i--) {
        const j = Math.floor(shuffle() * (i + 1));
        [values[i], values[j]] = [values[j], values[i]];
      }
      return paint(values);
    }
    function enter(next) {
      state = next;
      since = performance.now();
      for (const element of Object.values(say)) element.setAttribute("aria-disabled", String(next !== "answer"));
      const where = `Picture ${answers.length + 1} of ${pictures.length}`;
      told.textContent = next === "answer" ? `${where}: real or generated?` : next === "call" ? `${where}: call it when you are ready.` : `${where}: look.`;
      stage.setAttribute("aria-label", next === "answer" && timed ? "The mask: the picture is covered." : next === "see" || next === "answer" ? "The picture." : "The picture comes here.");
      call.hidden = next !== "call";
    }
    function next() {
      if (answers.length === pictures.length) return finish();
      if (!timed) { paint(image(pictures[answers.length])); return enter("answer"); }
      cross();
      if (calm?.matches) { enter("call"); if (answers.length) call.focus({ preventScroll: true }); return undefined; }
      enter("wait");
      timer = setTimeout(expose, PAUSE);
      return undefined;
    }
    function expose() {
      if (state === "call" && performance.now() - since < PAUSE) return;
      if (state === "call") stage.focus({ preventScroll: true });
      frames = requestAnimationFrame((begun) => {
        paint(image(pictures[answers.length]));
        enter("see");
        const tick = (now) => {
          if (now - begun < exposure - 8) { frames = requestAnimationFrame(tick); return; }  // to the nearest frame of about 60 a second
          if (now - begun > exposure + 30) late += 1;
          mask();
          enter("answer");
        };
        frames = requestAnimationFrame(tick);
      });
    }
    function answer(said) {
      if (state !== "answer" || (!timed && performance.now() - since < LEAST)) return;
      const { k, i } = pictures[answers.length], kind = k < 0 ? "real" : "fake";
      const name = k < 0 ? real.names[i] : `${makers[k].name}-${String(i).padStart(3, "0")}`;
      answers.push({ rater: "", image: name, kind, answer: said, exposure_ms: timed ? exposure : null, model: k < 0 ? null : makers[k].name });
      if (timed) exposure = after(exposure, said === kind, staircase);
      next();
    }
    function finish() {
      if (!answers.length) return begin(true);
      const rater = model.get("rater") || Array.from(crypto.getRandomValues(new Uint8Array(3)), (b) => b.toString(16).padStart(2, "0")).join("");
      set({ rater, answers: answers.map((a) => ({ ...a, rater })) });
      return results(pictures, late);
    }
    const hint = "Keys: R or the left arrow for real, G or the right arrow for generated."
      + (timed ? " A screen draws about 60 times a second, so that a picture may stay for 8 ms more or less." : "");
    show([
      make("div", { class: "asked" }, [
        stage, told, make("div", { class: "answers", role: "group", "aria-label": "Your answer" }, [say.real, say.fake]),
        make("div", { class: "row" }, [call, halt]),
      ]),
      make("div", { class: "help" }, [hint]),
    ], stage);
    key = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const said = { r: "real", ArrowLeft: "real", g: "fake", ArrowRight: "fake" }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (said) { event.preventDefault(); if (!event.repeat) answer(said); }
      if (event.key === " " && state === "call" && event.composedPath()[0] === stage) { event.preventDefault(); if (!event.repeat) expose(); }
    };
    stop = () => { clearTimeout(timer); cancelAnimationFrame(frames); };
    call.hidden = true;
    next();
  }

  // --- After
  function results(pictures, late) {
    const answers = model.get("answers"), test = model.get("test"), timed = test === "time", { fakes, reals, rate } = rates(answers);
    const heading = make("div", { class: "title", tabindex: "-1" }, [`Your ${answers.length} answer${answers.length === 1 ? "" : "s"}`]);
    const share = ({ wrong, seen }) => `${wrong} of ${seen}${seen ? ` (${percent(wrong / seen)})` : ""}`;
    const both = `You took ${share(fakes)} generated pictures for real, and called ${share(reals)} real ones generated.`, lines = [both];
    if (timed) {
      const mean = settled(answers, model.get("last"));
      lines.unshift(mean === null ? `The score of HYPE-time is the mean exposure of the last ${model.get("last")} answers; there are fewer.`
        : `The mean exposure of your last ${model.get("last")} answers: ${mean.toFixed(1)} ms. The longer, the harder the fakes were to tell.`);
      const goal = staircase.down / (staircase.up + staircase.down);
      lines.push(`Between its bounds the staircase leads you to be wrong ${percent(goal)} of the time, whatever the pictures are: the exposure is the result, not the rate of errors.`);
      if (late) lines.push(`${late} picture${late === 1 ? "" : "s"} stayed over 30 ms too long, as the browser was busy.`);
    } else if (rate === null) {
      lines.push("You saw pictures of one kind only, so there is no balanced rate.");
    } else {
      const within = fakes.seen === reals.seen ? `, 95 % interval ${interval(fakes.wrong + reals.wrong, answers.length).map(percent).join(" to ")}` : "";
      lines.push(`Balanced error rate: ${percent(rate)}${within}. Who only guesses has 50 %.`);
      lines.push(within ? "The interval is the exact one of a binomial; if your two rates differ, it is wider than it need be." : "As you stopped at unequal numbers of both kinds, it has no exact interval.");
    }
    lines.push("These numbers describe you and these pictures, and no one else: HYPE's score of a model is a mean over many raters.");

    const heads = ["samples of", "seen", "taken for real"];
    const rows = makers.map(({ name, title: text }) => [text, rates(answers.filter((a) => a.model === name)).fakes]).filter(([, { seen }]) => seen)
      .map(([text, { wrong, seen }]) => make("tr", {}, [make("th", { scope: "row" }, [text]), make("td", {}, [String(seen)]), make("td", {}, [String(wrong)])]));
    const table = make("table", {}, [make("caption", { class: "name" }, ["By model; so few of each say little"]), make("thead", {}, [make("tr", {}, heads.map((text) => make("th", { scope: "col" }, [text])))]), make("tbody", {}, rows)]);
    const mistakes = (kind, words, empty) => {
      const wrong = answers.map((a, at) => ({ a, ...pictures[at] })).filter(({ a }) => a.kind === kind && a.answer !== kind);
      const film = wrong.map(({ a, k, i }) => make("div", {}, [
        small(k < 0 ? real_images[i] : grey(makers[k].images[i]), { "aria-label": k < 0 ? `a real digit, ${a.image}` : `a sample, ${a.image}` }), k < 0 ? "" : title(a.model),
      ]));
      return [make("div", { class: "name" }, [wrong.length ? words : empty]), make("div", { class: "film" }, film)];
    };

    const name = make("input", { type: "text", "aria-label": "Your name in the file", maxlength: 40 }), text = make("textarea", { readonly: "", "aria-label": "The file" });
    const file = () => written(model.get("format"), test, model.get("rater"), answers);
    name.value = model.get("rater");
    text.value = file();
    name.addEventListener("input", () => {
      const rater = name.value.trim() || "reader";
      set({ rater, answers: model.get("answers").map((a) => ({ ...a, rater })) });
      text.value = file();
    });
    const save = button("save the answers", () => {
      const link = make("a", { download: `hype-${test}.json`, href: URL.createObjectURL(new Blob([file()], { type: "application/json" })) });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    }, { class: "main" });
    show([
      heading,
      make("output", { class: "score" }, lines.map((line) => make("div", {}, [line]))),
      ...(timed ? [exposures(answers)] : []),
      table,
      ...mistakes("fake", "Generated ones that you took for real", "You took no generated one for real."),
      ...mistakes("real", "Real ones that you called generated", "You called no real one generated."),
      make("div", { class: "row" }, [make("label", {}, ["name in the file", name]), save, button("another test", () => { set({ seed: (model.get("seed") + 1) % 2 ** 32, answers: [] }); begin(true); })]),
      make("details", {}, [make("summary", {}, ["the file as text, if your browser does not save it"]), text]),
      make("div", { class: "help" }, ["The file goes to your own disk, and nowhere else. The name is a random one; with one of your own, the answers of several files of yours count as one rater's. read_answers of gencourse.metrics.answers reads the file."]),
    ], heading);
  }

  // The exposure of each answer, in ms, with a mark at each error.
  function exposures(answers) {
    const chart = draft("svg", { class: "chart", role: "img" }), [W, H, l, r, u, d] = [Math.min(544, frame.clientWidth || 400), 130, 56, 8, 8, 22];
    const values = answers.map((a) => a.exposure_ms), low = Math.min(...values), high = Math.max(...values, low + 1);
    const x = (i) => l + ((W - l - r) * (i + 0.5)) / values.length, y = (v) => u + ((H - u - d) * (high - v)) / (high - low);
    const words = (said, left, height, anchor) => draft("text", { x: left, y: height, "text-anchor": anchor, fill: "currentColor" }, [said]);
    chart.setAttribute("viewBox", `0 0 ${W} ${H}`);
    chart.setAttribute("aria-label", `The exposure of each answer: it began at ${values[0]} ms, ended at ${values.at(-1)} ms, and lay between ${low} and ${Math.max(...values)} ms.`);
    chart.replaceChildren(
      draft("line", { x1: l, x2: W - r, y1: y(low), y2: y(low), stroke: "currentColor", opacity: 0.3 }), words(String(low), l - 6, y(low) + 4, "end"), words(`${high} ms`, l - 6, y(high) + 6, "end"),
      draft("polyline", { points: values.map((v, i) => `${x(i).toFixed(1)},${y(v).toFixed(1)}`).join(" "), fill: "none", stroke: "#2a8cc8", "stroke-width": 1.8 }),
      ...answers.flatMap((a, i) => (a.answer === a.kind ? [] : [draft("circle", { cx: x(i), cy: y(a.exposure_ms), r: 3, fill: SIGN })])),
      words("exposure of each answer; dots are errors", (l + W - r) / 2, H - 4, "middle"),
    );
    return chart;
  }

  frame.addEventListener("keydown", (event) => {
    if (event.key === "Tab" || event.key === "Escape") return;
    event.stopPropagation();  // the page must not turn
    if (event.composedPath()[0].tagName !== "INPUT") key(event);
  });
  begin();
  const watched = ["change:seed", "change:test", "change:whose", "change:n"], follow = () => { if (frame.querySelector(".examples")) begin(); };
  for (const event of watched) model.on(event, follow);
  return () => {
    stop();
    for (const event of watched) model.off(event, follow);
  };
}

export default { render };
