// Two directions of a latent space of faces: drag in their plane, see the decoder's face and what a reader reads off it. Runs with
// the state alone. `make`, `unpack` and `draggable` are plane.js's, choices those of pixels.js, the networks those of networks.js.

const STYLE = `${PIXELS}
  .pictures { display: grid; grid-template-columns: 3fr 2fr; gap: 0.2rem 1rem; max-width: 34rem; align-items: start; }
  .plane { position: relative; touch-action: pan-y; cursor: crosshair; user-select: none; -webkit-user-select: none; overflow: hidden; }
  .plane:focus-visible { outline: 3px solid #0072b2; outline-offset: 2px; }
  .mark { position: absolute; width: 16px; height: 16px; margin: -8px 0 0 -8px; border-radius: 50%; box-sizing: border-box;
          border: 3px solid #fff; outline: 2px solid #d55e00; box-shadow: 0 0 0 4px #0008; touch-action: none; }
  .mark::after { content: ""; position: absolute; inset: -17px; border-radius: 50%; }
  select { min-width: 0; max-width: 100%; }
  table { border-collapse: collapse; width: 100%; max-width: 34rem; font-variant-numeric: tabular-nums; font-size: 1em; margin: 0; }
  th { text-align: start; font-weight: 400; padding: 0.1rem 0.5rem 0.1rem 0; white-space: nowrap; }
  thead th { font-size: 0.9em; opacity: 0.85; vertical-align: bottom; white-space: normal; }
  td, thead th:nth-child(n+3) { text-align: end; padding: 0.1rem 0 0.1rem 0.6rem; white-space: nowrap; }
  td.line { width: 45%; padding: 0.1rem 8px; }
  td.much { font-weight: 700; }
  .track { position: relative; height: 1.1rem; border-bottom: 1px solid currentColor; }
  .track i { position: absolute; bottom: 0; }
  .track .before { width: 2px; height: 1rem; margin-left: -1px; background: currentColor; opacity: 0.6; }
  .track .now { width: 12px; height: 12px; margin: 0 0 -6px -6px; border-radius: 50%; background: #d55e00; }
  @media (max-width: 36rem) { .pictures { gap: 0.2rem 0.6rem; } td.line { width: 30%; } td, thead th:nth-child(n+3) { padding-left: 0.35rem; } }
`;
const TILES = 7, MUCH = 0.25;  // pictures along an axis of the map; the part of a factor's range that is a large change

// What the reader reads off grey levels, which are rounded first: a probability of a binary factor, the others as drawn.
export function factorReader(layers, factors, levels) {
  const run = network(layers);
  return (grey) => {
    const outputs = run(grey.map((v) => (2 * Math.round(v)) / (levels - 1) - 1));
    return factors.map(({ output, binary }) => (binary ? sigmoid(outputs[output]) : outputs[output]));
  };
}

// start + a u + b v, of arrays.
export const place = (start, u, v, [a, b]) => start.map((s, d) => s + a * u[d] + b * v[d]);

function render({ model, el }) {
  const decoder = model.get("decoder"), { levels, shape: [channels, height, width] } = decoder;
  const factors = model.get("factors"), names = model.get("names"), reach = model.get("reach");
  const decode = pixelMeans(decoder), reading = factorReader(model.get("reader"), factors, levels);
  const rows = (packed) => {
    const flat = unpack(packed), [n, size] = packed.shape;
    return Array.from({ length: n }, (_, i) => flat.slice(i * size, (i + 1) * size));
  };
  const directions = rows(model.get("directions")), starts = rows(model.get("starts"));
  const z = (at) => place(starts[model.get("start")], ...model.get("axes").map((i) => directions[i]), at);
  const plain = (i) => names[i].split(" (")[0];

  function paint(context, image, left = 0, top = 0) {
    const pixels = context.createImageData(width, height), n = width * height;
    for (let i = 0; i < n; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = Math.round((255 * image[(channels === 3 ? c * n : 0) + i]) / (levels - 1));
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, left, top);
  }

  // --- What is seen
  const map = make("canvas", { width: TILES * width, height: TILES * height, "aria-hidden": "true" });
  const mark = make("div", { class: "mark" });
  const plane = make("div", { class: "plane", tabindex: "0", role: "application", "aria-roledescription": "two-dimensional slider" }, [map, mark]);
  const face = make("canvas", { class: "face", width, height, role: "img" });
  const name = (text) => make("div", { class: "name" }, [text]), planeName = name("");
  const pictures = make("div", { class: "pictures" }, [planeName, name("The face there"), plane, face]);
  const options = names.map((text, i) => [i, text]);
  const pick = (axis) => choice(["Direction across", "Direction upwards"][axis], options, (i) => set({ axes: swapped(axis, i) }, walked));
  const swapped = (axis, i) => {  // never the same direction twice
    const axes = [...model.get("axes")], before = axes[axis];
    axes[axis] = i;
    if (axes[1 - axis] === i) axes[1 - axis] = before;
    return axes;
  };
  const picks = [pick(0), pick(1)];
  const from = choice("Where the walk begins", starts.map((_, i) => [i, i ? `the code of test face ${i}` : "z = 0"]), (i) => set({ start: i }, walked));
  const controls = make("div", { class: "row" }, [
    make("label", {}, ["across", picks[0]]), make("label", {}, ["upwards", picks[1]]), make("label", {}, ["from", from]),
    button("back to the centre", () => move(0, 0)),
  ]);
  const lines = factors.map(({ name: factor, low, high }) => {
    const before = make("i", { class: "before" }), now = make("i", { class: "now" });
    const cells = ["now-value", "across", "up"].map((kind) => make("td", { class: kind }));
    const row = make("tr", {}, [
      make("th", { scope: "row" }, [factor.replace("_", " ")]),
      make("td", { class: "line", "aria-hidden": "true" }, [make("div", { class: "track" }, [before, now])]), ...cells,
    ]);
    return { row, before, now, cells, low, high };
  });
  const head = ["factor", "as the reader reads it", "here", "\u2192 across", "\u2191 up"].map((text) => make("th", { scope: "col" }, [text]));
  const table = make("table", { "aria-label": "What the reader reads" }, [
    make("thead", {}, [make("tr", {}, head)]), make("tbody", {}, lines.map(({ row }) => row)),
  ]);
  const told = make("output", { class: "told", "aria-live": "polite" }), finds = make("div", { class: "finds" });
  const ranges = factors.map(({ name: factor, binary, low, high, score }) => {
    const known = score === null ? "" : binary ? `, right on ${(100 * score).toFixed(0)} % of drawn faces` : `, read with an error of ${score.toFixed(2)} on drawn faces`;
    return `${factor.replace("_", " ")}: ${binary ? "a probability" : `${signed(low)} to ${signed(high)}`}${known}`;
  }).join("; ");
  const help = make("div", { class: "help" }, [
    "Drag the ring, or focus the plane and use the arrow keys. The dot is the reading here, the line that at the centre. The last two "
    + "columns: how much the reading changes from edge to edge through the centre; bold where it is a quarter of the factor's range or "
    + `more. What the reader reads: ${ranges}.`,
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame" }, [controls, pictures, told, table, finds, help]);
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  // --- The map, a row a frame, and what changes along the axes
  let drawn = 0, job = 0, centre, changes;
  function drawRow() {
    for (let column = 0; column < TILES; column++) {
      const at = [column, TILES - 1 - drawn].map((k) => reach * ((2 * k) / (TILES - 1) - 1));
      paint(map.getContext("2d"), decode(z(at)), column * width, drawn * height);
    }
    frame.dataset.rows = ++drawn;
    if (drawn < TILES) job = requestAnimationFrame(drawRow);
  }
  function walked() {
    cancelAnimationFrame(job);
    drawn = 0;
    const off = (at) => reading(decode(z(at)));
    centre = off([0, 0]);
    changes = [[reach, 0], [0, reach]].map((at) => {
      const low = off(at.map((v) => -v));
      return off(at).map((v, i) => v - low[i]);
    });
    drawRow();
  }

  const text = (v) => signed(Math.abs(v) < 0.005 ? 0 : v, 2), change = (v) => (v >= 0.005 ? "+" : "") + text(v);
  function show() {
    const at = model.get("at"), axes = model.get("axes"), image = decode(z(at)), values = reading(image);
    paint(face.getContext("2d"), image);
    mark.style.left = `${50 * (1 + at[0] / reach)}%`;
    mark.style.top = `${50 * (1 - at[1] / reach)}%`;
    lines.forEach(({ before, now, cells, low, high }, i) => {
      const part = (v) => `${(100 * (Math.min(high, Math.max(low, v)) - low)) / (high - low)}%`;
      before.style.left = part(centre[i]);
      now.style.left = part(values[i]);
      cells[0].textContent = text(values[i]);
      changes.forEach((along, axis) => {
        cells[axis + 1].textContent = change(along[i]);
        cells[axis + 1].classList.toggle("much", Math.abs(along[i]) >= MUCH * (high - low));
      });
    });
    told.textContent = `${text(at[0])} across (${plain(axes[0])}) and ${text(at[1])} up (${plain(axes[1])}), in standard deviations of the prior.`;
    finds.replaceChildren(...changes.map((along, axis) => {
      const order = along.map((v, i) => [Math.abs(v) / (factors[i].high - factors[i].low), i]).sort(([a], [b]) => b - a).slice(0, 3);
      const most = order.map(([, i]) => `${factors[i].name.replace("_", " ")} ${change(along[i])}`).join(", ");
      return make("div", {}, [`Along ${names[axes[axis]]}, most changes: ${most}.`]);
    }));
    planeName.textContent = `${plain(axes[0])} across, ${plain(axes[1])} upwards`;
    plane.setAttribute("aria-label", `The plane of ${plain(axes[0])} and ${plain(axes[1])}, from \u2212${reach} to ${reach}. The arrow keys move the mark, with Shift in larger steps; Home goes to the centre.`);
    face.setAttribute("aria-label", `The decoder's face at ${told.textContent} The reader reads ${factors.map(({ name: factor }, i) => `${factor.replace("_", " ")} ${text(values[i])}`).join(", ")}.`);
    picks.forEach((select, axis) => { select.value = axes[axis]; });
    from.value = model.get("start");
  }

  // --- What the reader does
  function set(values, then = () => {}) {
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    then();
    show();
    model.save_changes();
  }
  const move = (a, b) => set({ at: [a, b] });
  draggable(plane, mark, [-reach, reach, -reach, reach], { put: move, where: () => model.get("at"), home: () => move(0, 0), step: reach / 30 });
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());

  const again = () => { walked(); show(); };
  again();
  for (const key of ["axes", "start"]) model.on(`change:${key}`, again);
  model.on("change:at", show);
  return () => {
    cancelAnimationFrame(job);
    for (const key of ["axes", "start"]) model.off(`change:${key}`, again);
    model.off("change:at", show);
  };
}

export default { render };
