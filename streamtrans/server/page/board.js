// Captions as they are read: one row per segment, one column per language.
//
// Law: side by side, what has been promised stays where it is: nothing above or before it changes its size, so no line
// jumps. On narrow screens the first language stands on top, and the same holds for it. The page moves up by steps, when
// its end is reached, and not while somebody reads further up.

const AHEAD = 2.5; // lines that are free below after a step up
const ROWS = 400; // kept in the page; older ones are in the transcript

export class Board {
  #stage;
  #rows;
  #heads;
  #later;
  #languages = [];
  #spoken = "";
  #cells = new Map(); // "row language" → cell
  #following = true;

  /**
   * @param {HTMLElement} stage scrolls; it holds `.heads` and `.rows`
   * @param {HTMLElement} later a button that leads to the end
   */
  constructor(stage, later) {
    this.#stage = stage;
    this.#rows = stage.querySelector(".rows");
    this.#heads = stage.querySelector(".heads");
    this.#later = later;
    let width = 0;
    new ResizeObserver(() => {
      if (stage.clientWidth !== width) this.settle();
      width = stage.clientWidth;
      if (this.#following) this.#end();
    }).observe(stage);
    stage.addEventListener("scroll", () => this.#look(), { passive: true });
    later.addEventListener("click", () => {
      this.#following = true;
      this.#end();
      stage.focus();
    });
  }

  /** Write these languages side by side; `spoken` is the original's, or "". New rows only: old ones keep theirs. */
  show(languages, spoken) {
    this.#languages = [...languages].sort((a, b) => (b === spoken) - (a === spoken));
    this.#spoken = spoken;
    const heads = this.#languages.map((language) => {
      const head = document.createElement("p");
      head.textContent = nameOf(language) + (language === spoken ? " · original" : "");
      head.classList.toggle("original", language === spoken);
      return head;
    });
    this.#heads.replaceChildren(...heads);
    this.#heads.hidden = languages.length < 2;
    this.#heads.dataset.columns = this.#stage.dataset.columns = String(Math.min(languages.length, 4));
  }

  /** Put what a caption changed. @param {ReturnType<import("./transcript.js").Transcript["take"]>} change */
  put({ segment, line, added }) {
    const cell = this.#cell(segment, line.language, line.committed || line.tentative);
    if (!cell) return;
    const tail = cell.lastElementChild;
    if (added === null) {
      cell.replaceChildren(tail);
    }
    const text = added ?? line.committed;
    if (text) {
      const piece = document.createElement("span");
      piece.className = "committed";
      piece.textContent = text;
      tail.before(piece);
    }
    tail.textContent = line.tentative;
    cell.classList.toggle("open", !line.final);
    hold(cell);
    if (this.#following) this.#step();
  }

  /** Take tentative text away: nothing more comes. */
  close() {
    for (const tail of this.#rows.querySelectorAll(".tentative")) tail.textContent = "";
    for (const cell of this.#rows.querySelectorAll(".open")) cell.classList.remove("open");
  }

  clear() {
    this.#rows.replaceChildren();
    this.#cells.clear();
    this.#following = true;
    this.#look();
  }

  /** Lay everything out anew, as after a change of size. */
  settle() {
    for (const cell of this.#cells.values()) cell.style.minHeight = "";
    for (const cell of this.#cells.values()) hold(cell);
  }

  #cell(segment, language, text) {
    const key = `${segment.number} ${language}`;
    const known = this.#cells.get(key);
    if (known || !text) return known;
    const cell = this.#row(segment.number).appendChild(document.createElement("p"));
    cell.lang = language;
    cell.dir = "auto";
    cell.dataset.name = nameOf(language);
    cell.classList.toggle("original", language === this.#spoken);
    // one language is read aloud, or none would be understood
    if (language !== this.#aloud) cell.setAttribute("aria-live", "off");
    const place = Math.max(0, this.#languages.indexOf(language));
    cell.style.setProperty("--column", String(place + 1));
    cell.style.order = String(language === this.#spoken ? this.#languages.length : place); // where they are stacked
    const tail = cell.appendChild(document.createElement("span"));
    tail.className = "tentative";
    tail.setAttribute("aria-hidden", "true");
    this.#cells.set(key, cell);
    return cell;
  }

  get #aloud() {
    return this.#languages.find((language) => language !== this.#spoken) ?? this.#spoken;
  }

  #row(number) {
    const newest = this.#rows.lastElementChild;
    const known = newest?.dataset.number === String(number) ? newest : this.#rows.querySelector(`[data-number="${number}"]`);
    if (known) return known;
    const row = document.createElement("li");
    row.dataset.number = String(number);
    row.dataset.columns = this.#stage.dataset.columns;
    const after = [...this.#rows.children].find((each) => Number(each.dataset.number) > number) ?? null;
    this.#rows.insertBefore(row, after);
    if (this.#rows.children.length > ROWS && !this.#following) return row;
    while (this.#rows.children.length > ROWS) this.#drop(this.#rows.firstElementChild);
    return row;
  }

  #drop(row) {
    for (const key of this.#cells.keys()) {
      if (key.startsWith(`${row.dataset.number} `)) this.#cells.delete(key);
    }
    const height = row.offsetHeight;
    row.remove();
    this.#stage.scrollTop -= height;
  }

  #line() {
    return Number.parseFloat(getComputedStyle(this.#rows).lineHeight);
  }

  #bottom() {
    const last = this.#rows.lastElementChild;
    return last ? last.offsetTop + last.offsetHeight : 0;
  }

  /** Move up where the end is reached, by some lines at once rather than with each. */
  #step() {
    const over = this.#bottom() - (this.#stage.scrollTop + this.#stage.clientHeight);
    if (over > -0.4 * this.#line()) this.#end();
  }

  #end() {
    const top = this.#bottom() + AHEAD * this.#line() - this.#stage.clientHeight;
    if (top > this.#stage.scrollTop) this.#stage.scrollTop = top;
  }

  #look() {
    const hidden = this.#bottom() - (this.#stage.scrollTop + this.#stage.clientHeight);
    this.#following = hidden < 2 * this.#line();
    this.#later.hidden = this.#following;
  }
}

/** Let a cell become no smaller while its tail comes and goes. */
function hold(cell) {
  const height = cell.offsetHeight;
  if (height > (Number.parseFloat(cell.style.minHeight) || 0)) cell.style.minHeight = `${height}px`;
}

/** What a language is called by those who speak it. */
export function nameOf(language) {
  try {
    const name = new Intl.DisplayNames([language], { type: "language" }).of(language);
    return name.charAt(0).toLocaleUpperCase(language) + name.slice(1);
  } catch {
    return language;
  }
}
