// QR codes (ISO/IEC 18004): bytes, error correction M, versions 1 to 15, which hold 412 bytes.

const ECC = [10, 16, 26, 18, 24, 16, 18, 22, 22, 26, 30, 22, 22, 24, 24]; // correction bytes of a block, by version
const BLOCKS = [1, 1, 1, 2, 2, 4, 4, 4, 5, 5, 5, 8, 9, 9, 10];

const MASKS = [
  (x, y) => (x + y) % 2,
  (_, y) => y % 2,
  (x) => x % 3,
  (x, y) => (x + y) % 3,
  (x, y) => (Math.floor(x / 3) + Math.floor(y / 2)) % 2,
  (x, y) => ((x * y) % 2) + ((x * y) % 3),
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2,
  (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2,
];

/**
 * Return the modules of a code, row by row; true is dark.
 *
 * @param {string} text
 * @returns {boolean[][]}
 * @throws {RangeError} it is too long
 */
export function qr(text) {
  const bytes = new TextEncoder().encode(text);
  const version = ECC.findIndex((_, index) => needed(bytes, index + 1) <= capacity(index + 1)) + 1;
  if (!version) throw new RangeError(`${bytes.length} bytes are too many for a code`);
  const bits = interleaved(packed(bytes, version), version);
  const plain = empty(version);
  place(plain, bits);
  const candidates = MASKS.map((mask, number) => masked(plain, mask, number));
  const costs = candidates.map(penalty);
  return candidates[costs.indexOf(Math.min(...costs))];
}

/** Return an SVG element that shows `text`, black on white with its quiet zone, whatever the theme. */
export function picture(text, label) {
  const code = qr(text);
  const side = code.length + 8;
  const element = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const path = code.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + 4} ${y + 4}h1v1h-1z` : ""))).join("");
  const svg = element("svg", { viewBox: `0 0 ${side} ${side}`, role: "img", "aria-label": label, class: "qr" });
  svg.append(element("rect", { width: side, height: side, fill: "#fff" }));
  svg.append(element("path", { d: path, fill: "#000", "shape-rendering": "crispEdges" }));
  return svg;
}

/** Bytes that a version holds, correction included. */
function codewords(version) {
  let modules = (16 * version + 128) * version + 64;
  if (version > 1) {
    const marks = Math.floor(version / 7) + 2;
    modules -= (25 * marks - 10) * marks - 55;
    if (version > 6) modules -= 36;
  }
  return Math.floor(modules / 8);
}

function capacity(version) {
  return codewords(version) - ECC[version - 1] * BLOCKS[version - 1];
}

function counted(version) {
  return version < 10 ? 8 : 16; // bits of the length
}

function needed(bytes, version) {
  return Math.ceil((4 + counted(version) + 8 * bytes.length) / 8);
}

/** Mode, length, data, end, and padding to the capacity. */
function packed(bytes, version) {
  const bits = [];
  const put = (value, count) => {
    for (let bit = count - 1; bit >= 0; bit -= 1) bits.push((value >> bit) & 1);
  };
  put(0b0100, 4);
  put(bytes.length, counted(version));
  for (const byte of bytes) put(byte, 8);
  const total = 8 * capacity(version);
  put(0, Math.min(4, total - bits.length));
  put(0, (8 - (bits.length % 8)) % 8);
  for (let pad = 0xec; bits.length < total; pad ^= 0xec ^ 0x11) put(pad, 8);
  return Array.from({ length: total / 8 }, (_, at) =>
    bits.slice(8 * at, 8 * at + 8).reduce((byte, bit) => 2 * byte + bit, 0),
  );
}

/** Blocks with their corrections, byte by byte in turn, as bits. */
function interleaved(data, version) {
  const blocks = BLOCKS[version - 1];
  const short = Math.floor(data.length / blocks);
  const shorter = blocks - (data.length % blocks);
  const divisor = generator(ECC[version - 1]);
  const parts = [];
  for (let index = 0, at = 0; index < blocks; index += 1) {
    const length = short + (index < shorter ? 0 : 1);
    parts.push(data.slice(at, at + length));
    at += length;
  }
  const corrections = parts.map((part) => remainder(part, divisor));
  const turn = (lists) =>
    Array.from({ length: Math.max(...lists.map((list) => list.length)) }, (_, at) =>
      lists.filter((list) => at < list.length).map((list) => list[at]),
    ).flat();
  return [...turn(parts), ...turn(corrections)].flatMap((byte) =>
    Array.from({ length: 8 }, (_, bit) => (byte >> (7 - bit)) & 1),
  );
}

/** In the field of 256 with the polynomial 0x11d. */
function times(a, b) {
  let product = 0;
  for (let bit = 7; bit >= 0; bit -= 1) {
    product = (product << 1) ^ ((product >> 7) * 0x11d);
    product ^= ((b >> bit) & 1) * a;
  }
  return product;
}

function generator(degree) {
  let coefficients = [1];
  for (let power = 0, root = 1; power < degree; power += 1, root = times(root, 2)) {
    const next = [...coefficients, 0];
    coefficients.forEach((value, at) => {
      next[at + 1] ^= times(value, root);
    });
    coefficients = next;
  }
  return coefficients.slice(1);
}

function remainder(data, divisor) {
  const rest = divisor.map(() => 0);
  for (const byte of data) {
    const factor = byte ^ rest.shift();
    rest.push(0);
    divisor.forEach((value, at) => {
      rest[at] ^= times(value, factor);
    });
  }
  return rest;
}

/** Finder, timing and alignment patterns; `undefined` where data goes. */
function empty(version) {
  const size = 17 + 4 * version;
  const grid = Array.from({ length: size }, () => Array(size).fill(undefined));
  const square = (cx, cy, reach, dark) => {
    for (let dy = -reach; dy <= reach; dy += 1) {
      for (let dx = -reach; dx <= reach; dx += 1) {
        if (grid[cy + dy] && cx + dx >= 0 && cx + dx < size) {
          grid[cy + dy][cx + dx] = dark(Math.max(Math.abs(dx), Math.abs(dy)));
        }
      }
    }
  };
  for (let at = 0; at < size; at += 1) grid[6][at] = grid[at][6] = at % 2 === 0;
  for (const [x, y] of [[3, 3], [size - 4, 3], [3, size - 4]]) square(x, y, 4, (ring) => ring !== 2 && ring !== 4);
  const marks = aligned(version, size);
  const last = marks.length - 1;
  marks.forEach((x, i) =>
    marks.forEach((y, j) => {
      const finder = (i === 0 && j === 0) || (i === 0 && j === last) || (i === last && j === 0);
      if (!finder) square(x, y, 2, (ring) => ring !== 1);
    }),
  );
  writeFormat(grid, 0); // takes its room
  if (version > 6) writeVersion(grid, version);
  return grid;
}

function aligned(version, size) {
  if (version === 1) return [];
  const count = Math.floor(version / 7) + 2;
  const step = 2 * Math.ceil((4 * version + 4) / (2 * count - 2));
  return [6, ...Array.from({ length: count - 1 }, (_, at) => size - 7 - step * (count - 2 - at))];
}

function checked(value, polynomial, length) {
  let rest = value;
  for (let bit = 0; bit < length; bit += 1) rest = (rest << 1) ^ ((rest >> (length - 1)) * polynomial);
  return (value << length) | rest;
}

function writeFormat(grid, mask) {
  const size = grid.length;
  const bits = checked(mask, 0x537, 10) ^ 0x5412; // level M is 00
  for (let at = 0; at < 15; at += 1) {
    const dark = ((bits >> at) & 1) === 1;
    const place = at < 6 ? at : at + 1;
    if (at < 8) grid[place][8] = dark;
    else grid[8][at === 8 ? 7 : 14 - at] = dark;
    if (at < 8) grid[8][size - 1 - at] = dark;
    else grid[size - 15 + at][8] = dark;
  }
  grid[size - 8][8] = true;
}

function writeVersion(grid, version) {
  const bits = checked(version, 0x1f25, 12);
  for (let at = 0; at < 18; at += 1) {
    const dark = ((bits >> at) & 1) === 1;
    const [long, short] = [grid.length - 11 + (at % 3), Math.floor(at / 3)];
    grid[short][long] = grid[long][short] = dark;
  }
}

/** Put bits into free modules: up and down in pairs of columns from the right, past the timing pattern. */
function place(grid, bits) {
  const size = grid.length;
  let at = 0;
  let up = true;
  for (let right = size - 1; right > 0; right -= 2, up = !up) {
    if (right === 6) right -= 1;
    for (let step = 0; step < size; step += 1) {
      const row = grid[up ? size - 1 - step : step];
      for (const x of [right, right - 1]) {
        if (row[x] === undefined) {
          row[x] = bits[at] ?? 0; // numbers are data, booleans are patterns
          at += 1;
        }
      }
    }
  }
}

function masked(plain, mask, number) {
  const grid = plain.map((row, y) =>
    row.map((value, x) => (typeof value === "boolean" ? value : (value === 1) !== (mask(x, y) === 0))),
  );
  writeFormat(grid, number);
  return grid;
}

/** How badly a scanner could take the modules for something else. */
function penalty(grid) {
  const size = grid.length;
  const lines = [...grid, ...grid[0].map((_, x) => grid.map((row) => row[x]))].map((line) =>
    line.map((dark) => (dark ? "1" : "0")).join(""),
  );
  let cost = 0;
  for (const line of lines) {
    for (const [run] of line.matchAll(/(.)\1{4,}/g)) cost += run.length - 2;
    cost += 40 * [...line.matchAll(/(?=00001011101|10111010000)/g)].length;
  }
  for (let y = 1; y < size; y += 1) {
    for (let x = 1; x < size; x += 1) {
      const dark = grid[y][x];
      if (grid[y - 1][x] === dark && grid[y][x - 1] === dark && grid[y - 1][x - 1] === dark) cost += 3;
    }
  }
  const share = grid.flat().filter(Boolean).length / size ** 2;
  return cost + 10 * Math.floor(Math.abs(share - 0.5) * 20);
}
