// A scene graph to be edited, and the network that draws it, here. Runs with the state alone. `make` and `unpack` are plane.js's,
// choices and buttons those of pixels.js, `network` that of networks.js, what is made of feature maps that of maps.js.

const STYLE = `${PIXELS}
  .seen { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 4fr); gap: 0.6rem 1.2rem; align-items: start; }
  .seen > div { display: grid; gap: 0.4rem; }
  .scene { position: relative; }
  canvas { image-rendering: pixelated; }
  .scene svg { position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; font-size: 12px; font-weight: 700; }
  .strip { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; gap: 0.3rem; }
  .heading { font-weight: 600; }
  .object, .relation { display: flex; flex-wrap: wrap; gap: 0.2rem 0.4rem; align-items: center; }
  .relation { padding-bottom: 0.25rem; border-bottom: 1px solid #8886; }
  .half { display: flex; gap: 0.4rem; align-items: center; white-space: nowrap; }
  .letter { font-weight: 700; display: inline-flex; gap: 0.2rem; align-items: center; }
  .chip { width: 0.7rem; height: 0.7rem; border-radius: 2px; outline: 1px solid #8888; }
  .read { flex-basis: 100%; font-size: 0.9em; font-variant-numeric: tabular-nums; }
  label.boxes input { width: 1rem; height: 1rem; margin: 0; accent-color: #0072b2; }
  label.boxes { cursor: pointer; }
  .told { min-height: 4.2em; }
  .refused { border-inline-start: 4px solid #d55e00; padding-inline-start: 0.5rem; }
  @media (max-width: 36rem) {
    .seen { grid-template-columns: minmax(0, 1fr); }
    .seen > .pictures { grid-template-columns: minmax(0, 5.5fr) minmax(0, 1fr); }
    .pictures .name { order: 1; grid-column: 1 / -1; }
    .strip { grid-auto-flow: row; align-content: start; }
  }
`;
const LETTERS = "ABCD";

const added = (a, b) => a.map((v, i) => v + b[i]);

// The generator: vectors of objects by messages along the triples, boxes, masks, a layout, a picture.
export function sceneGraph(packed) {
  const { width, side, cells } = packed, area = side * side;
  const table = (name) => { const all = unpack(packed[name]); return (k) => all.slice(k * width, (k + 1) * width); };
  const shapes = table("shape"), colours = table("colour"), relations = table("relation");
  const convolutions = packed.convolutions.map(({ triple, object }) => ({ triple: network(triple), object: network(object) }));
  const boxHead = network(packed.box_head), maskHead = network(packed.mask_head), appearance = network(packed.appearance);
  const refinement = packed.refinement.map(mapping), last = mapping(packed.last);

  function vectors(objects, triples) {
    let v = objects.map(([shape, colour]) => added(shapes(shape), colours(colour))), r = triples.map(([, relation]) => relations(relation));
    for (const { triple, object } of convolutions) {
      const total = v.map(() => new Float64Array(width)), count = v.map(() => 0);
      r = triples.map(([a, , b], t) => {
        const out = triple(beside(v[a], r[t], v[b])), part = (k) => out.slice(k * width, (k + 1) * width);
        for (const [end, message] of [[a, part(0)], [b, part(2)]]) {  // messages both ways
          total[end] = added(total[end], message);
          count[end] += 1;
        }
        return part(1);
      });
      v = v.map((before, k) => added(before, object(total[k].map((x) => x / Math.max(1, count[k])))));
    }
    return v;
  }
  // Left, top, right, bottom, in [0, 1].
  const boxes = (v, z) => v.map((one) => {
    const [x, y, w, h] = boxHead(beside(one, z)).map(sigmoid);
    return [x * (1 - w), y * (1 - h), x * (1 - w) + w, y * (1 - h) + h];
  });
  // How much of each pixel each cell covers, along one side.
  const overlaps = (low, high) => Array.from({ length: side }, (_, i) => Array.from({ length: cells }, (__, m) => {
    const edge = (k) => side * (low + (high - low) * (k / cells));
    return Math.max(0, Math.min(edge(m + 1), i + 1) - Math.max(edge(m), i));
  }));
  function placed(mask, [left, top, right, bottom]) {
    const across = overlaps(left, right), down = overlaps(top, bottom), cover = new Float64Array(area);
    for (let i = 0; i < side; i++) {
      for (let a = 0; a < cells; a++) {
        if (!down[i][a]) continue;
        for (let j = 0; j < side; j++) for (let b = 0; b < cells; b++) cover[i * side + j] += down[i][a] * mask[a * cells + b] * across[j][b];
      }
    }
    return cover;
  }
  function painted(v, around) {
    const layout = v.map((one, k) => {
      const cover = placed(maskHead(one).map(sigmoid), around[k]);
      return beside(...Array.from(appearance(one), (value) => cover.map((part) => value * part)));
    }).reduce(added);
    const levels = [layout];
    for (let across = side; levels.length < refinement.length; across /= 2) levels.unshift(halved(levels[0], across));
    let y = refinement[0](levels[0]);
    for (let k = 1; k < levels.length; k++) y = refinement[k](beside(doubled(y, side / 2 ** (levels.length - k)), levels[k]));
    return last(y);
  }
  // One graph, and several noises: the boxes and the picture of each.
  return (objects, triples, noises) => {
    const v = vectors(objects, triples);
    return noises.map((z) => { const around = boxes(v, z); return { boxes: around, picture: painted(v, around) }; });
  };
}

// --- What is read off

// Where each colour is in a picture, values in [0, 1], as a reader of drawn scenes finds it.
export function locate(values, side, { palette, background }) {
  const area = side * side, pixel = 2 / side, line = (i) => (i + 0.5) * pixel - 1;
  return palette.map((paint) => {
    const reach = Math.sqrt(paint.reduce((sum, v) => sum + (v - background) ** 2, 0));
    const across = new Float64Array(side), down = new Float64Array(side);
    let mass = 0, x = 0, y = 0;
    for (let i = 0; i < area; i++) {
      const away = Math.sqrt(paint.reduce((sum, v, c) => sum + (values[c * area + i] - v) ** 2, 0));
      const weight = Math.max(0, 1 - (2 * away) / reach), row = Math.floor(i / side), column = i % side;
      mass += weight;
      x += weight * line(column);
      y += weight * line(row);
      across[column] = Math.max(across[column], weight);
      down[row] = Math.max(down[row], weight);
    }
    const ends = (profile) => {
      let low = 9, high = -9;
      profile.forEach((v, i) => {
        if (v <= 0.05) return;
        low = Math.min(low, line(i) + pixel / 2 - pixel * (0.5 + 0.5 * v));
        high = Math.max(high, line(i) - pixel / 2 + pixel * (0.5 + 0.5 * v));
      });
      return [low, high];
    };
    const [left, right] = ends(across), [top, bottom] = ends(down), all = Math.max(mass, 1e-9);
    return { seen: mass * pixel ** 2 > 0.015, x: x / all, y: y / all, box: [left, top, right, bottom] };
  });
}

// How one object stands to another: inside and around go by the boxes, the others by the larger displacement of the centres.
export function stands(a, b) {
  const within = (p, q) => p[0] >= q[0] && p[1] >= q[1] && p[2] <= q[2] && p[3] <= q[3], dx = b.x - a.x, dy = b.y - a.y;
  if (within(a.box, b.box)) return 4;
  if (within(b.box, a.box)) return 5;
  return Math.abs(dx) > Math.abs(dy) ? (dx > 0 ? 0 : 1) : dy > 0 ? 2 : 3;
}
const middle = (box) => ({ box, x: (box[0] + box[2]) / 2, y: (box[1] + box[3]) / 2 });

// Whether each triple is obeyed, by the picture and by the boxes.
export function obeyed(objects, triples, { values, boxes }, side, paint) {
  const found = locate(values, side, paint), centres = boxes.map(middle);
  return triples.map(([a, relation, b]) => {
    const [first, second] = [a, b].map((k) => found[objects[k][1]]);
    return { picture: first.seen && second.seen && stands(first, second) === relation, boxes: stands(centres[a], centres[b]) === relation };
  });
}

// Why no scene has what the triples say, or null. "Left of" is two inequalities, in the coordinates u = x + y and v = x - y, and so
// is each of the others: the triples can hold together exactly when neither order goes round in a circle.
export function contradiction(triples, say) {
  for (const first of [[0, 2], [0, 3]]) {  // the relations whose subject comes before the object, in u and in v
    const forward = triples.filter(([, r]) => first.includes(r)), back = triples.filter(([, r]) => !first.includes(r));
    const arrows = [...forward.map((t) => [t[0], t[2], t]), ...back.map((t) => [t[2], t[0], t])];
    for (const [a, b, triple] of arrows) {
      const ways = new Map([[b, [triple]]]), front = [b];
      while (front.length) {
        const at = front.shift();
        if (at === a) {
          const said = [...new Set(ways.get(a))].map(say);
          return `no scene has ${said.length > 1 ? `${said.slice(0, -1).join(", ")} and ${said.at(-1)}` : said[0]}`;
        }
        for (const [c, d, other] of arrows) {
          if (c !== at || ways.has(d)) continue;
          ways.set(d, [...ways.get(at), other]);
          front.push(d);
        }
      }
    }
  }
  return null;
}

// The triples with another relation in one of them; others of the same two objects are changed with it.
export function edited(triples, i, relation, inverse) {
  const [a, , b] = triples[i];
  return triples.map(([c, r, d]) => (c === a && d === b ? [c, relation, d] : c === b && d === a ? [c, inverse[relation], d] : [c, r, d]));
}

function render({ model, el }) {
  const { shapes, colours, relations, inverse } = model.get("names"), paint = model.get("paint"), packed = model.get("network");
  const generate = sceneGraph(packed), { side, latent } = packed, last = model.get("levels") - 1, shown = model.get("shown"), area = side * side;
  const start = { objects: model.get("objects"), triples: model.get("triples") };
  const name = (k) => { const [shape, colour] = model.get("objects")[k]; return `${colours[colour]} ${shapes[shape]}`; };
  const say = ([a, r, b]) => `the ${name(a)} ${relations[r]} the ${name(b)}`;
  const css = (k) => `rgb(${paint.palette[model.get("objects")[k][1]].map((v) => Math.round(255 * v)).join(", ")})`;

  // --- What is seen
  const canvas = (attributes) => make("canvas", { width: side, height: side, ...attributes });
  const large = canvas({ role: "img", class: "large" }), svg = draft("svg", { "aria-hidden": "true" });
  const small = Array.from({ length: shown - 1 }, () => canvas({ class: "small" }));
  const strip = make("div", { class: "strip", role: "img" }, small);
  const told = make("output", { class: "told", "aria-live": "polite" });
  const options = (names) => names.map((text, i) => [i, text]);
  const chips = start.objects.map(() => []);  // all that have an object's colour
  const letter = (k) => {
    const chip = make("span", { class: "chip", "aria-hidden": "true" });
    chips[k].push(chip);
    return make("span", { class: "letter" }, [LETTERS[k], chip]);
  };
  const objects = start.objects.map((_, k) => {
    const colour = choice(`Colour of ${LETTERS[k]}`, options(colours), (c) => recolour(k, c));
    const kind = choice(`Shape of ${LETTERS[k]}`, options(shapes), (s) => reshape(k, s));
    return { colour, kind, row: make("div", { class: "object" }, [letter(k), colour, kind]) };
  });
  const lines = start.triples.map(([a, , b], i) => {
    const one = choice(`${LETTERS[a]} stands to ${LETTERS[b]}`, options(relations), (r) => relate(i, r));
    const back = choice(`${LETTERS[b]} stands to ${LETTERS[a]}`, options(relations), (r) => relate(i, inverse[r]));
    const read = make("div", { class: "read" });
    const half = (...parts) => make("span", { class: "half" }, parts);
    const said = [half(letter(a), "is", one, letter(b)), half("so", letter(b), "is", back, letter(a))];
    return { one, back, read, row: make("div", { class: "relation" }, [...said, read]) };
  });
  const pairs = start.triples.map(([a, , b]) => button(`${LETTERS[a]} and ${LETTERS[b]}`, () => swap(a, b), { "aria-label": `swap ${LETTERS[a]} and ${LETTERS[b]}` }));
  const around = make("input", { type: "checkbox" });
  around.addEventListener("change", () => set({ boxes: around.checked }));
  const controls = make("div", { class: "row", role: "group", "aria-label": "Noise and boxes" }, [
    button("new noise", () => set({ seed: (model.get("seed") + 1) % 2 ** 32 })), button("the first graph", () => set(start)),
    make("label", { class: "boxes" }, [around, "boxes"]),
  ]);
  const heading = (text) => make("div", { class: "heading" }, [text]);
  const seen = make("div", { class: "seen" }, [
    make("div", { class: "pictures" }, [make("div", { class: "scene" }, [large, svg]), make("div", { class: "name" }, ["the same graph, other noise"]), strip]),
    make("div", {}, [
      heading("Relations"), ...lines.map(({ row }) => row), told,
      heading("Objects"), ...objects.map(({ row }) => row), make("div", { class: "row" }, ["swap", ...pairs]),
    ]),
  ]);
  const help = make("div", { class: "help" }, [
    "Each pair has one relation, said both ways: change one, and its inverse follows. Colours are all different, so an object that takes "
    + "another's colour gives it its own. Swapped objects change places, as the relations stay where they are. \u201cLeft of\u201d means: further "
    + "to the left than up or down; so with the others. Obeyed in the picture: by where the two colours are. Obeyed by the boxes: by the "
    + "centres of the boxes, which the network chose.",
  ]);
  const root = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  const frame = make("div", { class: "frame" }, [controls, seen, help]);
  root.replaceChildren(make("style", {}, [STYLE]), frame);

  function put(target, values) {
    const context = target.getContext("2d"), pixels = context.createImageData(side, side);
    for (let i = 0; i < area; i++) {
      for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = Math.round(255 * values[c * area + i]);
      pixels.data[4 * i + 3] = 255;
    }
    context.putImageData(pixels, 0, 0);
  }
  let refused = null;
  function show() {
    const nodes = model.get("objects"), triples = model.get("triples"), seed = model.get("seed");
    const noises = Array.from({ length: shown }, (_, k) => normals(random(seed + k), latent));
    const scenes = generate(nodes, triples, noises).map(({ picture: y, boxes }) => ({ boxes, values: y.map((v) => Math.round(((v + 1) / 2) * last) / last) }));
    const right = scenes.map((scene) => obeyed(nodes, triples, scene, side, paint));
    put(large, scenes[0].values);
    small.forEach((target, k) => put(target, scenes[k + 1].values));
    svg.setAttribute("viewBox", "0 0 100 100");
    svg.replaceChildren(...(model.get("boxes") ? scenes[0].boxes : []).flatMap(([l, t, r, b], k) => {
      const [x, y, w, h] = [l, t, r - l, b - t].map((v) => 100 * v);
      const box = { x, y, width: w, height: h, fill: "none", "vector-effect": "non-scaling-stroke" };
      return [
        draft("rect", { ...box, stroke: "#000", "stroke-width": 3.5 }), draft("rect", { ...box, class: "box", stroke: "#fff", "stroke-width": 1.5, "stroke-dasharray": "5 3" }),
        draft("text", { x: x + 1, y: y > 7 ? y - 1.5 : y + h + 6, "font-size": 6.5, fill: "#fff", stroke: "#000", "stroke-width": 1.5, "paint-order": "stroke" }, [LETTERS[k]]),
      ];
    }));
    objects.forEach(({ colour, kind }, k) => {
      [kind.value, colour.value] = nodes[k];
      for (const chip of chips[k]) chip.style.background = css(k);
    });
    const word = (yes) => (yes ? "obeyed" : "not obeyed");
    lines.forEach(({ one, back, read }, i) => {
      const r = triples[i][1];
      one.value = r;
      back.value = inverse[r];
      read.textContent = `${word(right[0][i].picture)} in the picture, ${word(right[0][i].boxes)} by the boxes`;
    });
    const count = (sides) => sides.flat().filter((v) => v.picture).length;
    const others = `In all ${shown} pictures: ${count(right)} of ${shown * triples.length}.`;
    told.classList.toggle("refused", Boolean(refused));
    told.replaceChildren(...[
      ...(refused ? [refused] : []),
      `${count([right[0]])} of ${triples.length} relations are obeyed in the picture. ${others}`,
    ].map((text) => make("div", {}, [text])));
    large.setAttribute("aria-label", `The network's picture of: ${triples.map(say).join("; ")}. ${right[0].filter((v) => v.picture).length} of ${triples.length} relations are obeyed.`);
    strip.setAttribute("aria-label", `${shown - 1} more pictures of the same graph, with other noise: other layouts.`);
    around.checked = model.get("boxes");
  }

  // --- What the reader does
  function set(values) {
    refused = null;
    for (const [key, value] of Object.entries(values)) model.set(key, value);
    show();
    model.save_changes();
  }
  function relate(i, relation) {
    const triples = edited(model.get("triples"), i, relation, inverse), wrong = contradiction(triples, say);
    if (!wrong) return set({ triples });
    refused = `Refused: ${wrong}; change another relation first.`;
    show();
  }
  const change = (k, pair) => model.get("objects").map((one, i) => (i === k ? pair : one));
  const reshape = (k, shape) => set({ objects: change(k, [shape, model.get("objects")[k][1]]) });
  function recolour(k, colour) {
    const before = model.get("objects");
    set({ objects: before.map(([s, c], i) => (i === k ? [s, colour] : c === colour ? [s, before[k][1]] : [s, c])) });
  }
  function swap(a, b) {
    const before = model.get("objects");
    set({ objects: before.map((one, k) => (k === a ? before[b] : k === b ? before[a] : one)) });
  }
  frame.addEventListener("keydown", (event) => event.key !== "Tab" && event.key !== "Escape" && event.stopPropagation());

  // A kernel that sets a name of the model sees the page follow.
  const watched = ["objects", "triples", "boxes", "seed"].map((key) => [`change:${key}`, () => { refused = null; show(); }]);
  show();
  for (const [event, follow] of watched) model.on(event, follow);
  return () => { for (const [event, follow] of watched) model.off(event, follow); };
}

export default { render };
