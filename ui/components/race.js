// One query as a race, replayed in slow motion from measured times. Data: {label, said, slowdown, stamp, left: {light, dark},
// entrants: [{name, glyph, light, dark, ms, chosen, laps: [[shard, until]], total, words}]}.
// A bar has a cell per shard, which fills while the contender searches that shard; what it never opens becomes a thin grey line.
// Nothing moves until the button is pressed; the result stands there before and after.
const raced = new WeakMap()

function shown(ms) {
  return `${ms.toFixed(ms >= 100 ? 0 : ms >= 10 ? 1 : 2)} ms`
}

class Lane {
  constructor(entrant, dark) {
    this.entrant = entrant
    this.row = element("div", "lane")
    this.row.style.setProperty("--own", dark ? entrant.dark : entrant.light)
    this.bar = element("div", entrant.total > 100 ? "bar many" : "bar")
    this.bar.setAttribute("role", "img")
    this.bar.setAttribute("aria-label", entrant.words)
    this.bar.title = entrant.words
    this.cells = Array.from({ length: entrant.total }, () => element("div", "cell"))
    this.bar.append(...this.cells)
    this.ms = element("div", "ms")
    this.doing = element("div", "doing")
    const time = element("div", "time")
    time.append(this.ms, this.doing)
    this.row.append(this.name(), this.bar, time)
  }

  name() {
    const name = element("div", "name")
    const sign = element("span", "sign", this.entrant.glyph)
    sign.setAttribute("aria-hidden", "true")
    name.append(sign, document.createTextNode(this.entrant.name))
    return name
  }

  // Draw the state at a time, milliseconds after the query.
  at(now) {
    const { ms, chosen, laps } = this.entrant
    const over = now >= ms
    const opened = new Set(laps.map(([shard]) => shard))
    let since = chosen
    let searching = 0
    for (const [shard, until] of laps) {
      const done = over ? 1 : Math.min(1, Math.max(0, (now - since) / Math.max(until - since, 1e-9)))
      this.cells[shard]?.style.setProperty("--done", done)
      if (done >= 1) searching += 1
      since = until
    }
    this.cells.forEach((cell, shard) => {
      if (!laps.length) cell.style.setProperty("--done", Math.min(1, now / ms))
      cell.classList.toggle("left", laps.length > 0 && now >= chosen && chosen > 0 && !opened.has(shard))
    })
    this.ms.textContent = shown(Math.min(now, ms))
    const n = laps.length || this.entrant.total
    this.doing.textContent = over
      ? `done, ${n} of ${this.entrant.total} ${this.entrant.total === 1 ? "index" : "shards"}`
      : now < chosen
        ? "choosing shards"
        : searching === laps.length && laps.length
          ? "re-scoring and merging"
          : `shard ${searching + 1} of ${n}`
    return over
  }
}

export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const dark = isDark(root)
  const stamp = `${data.stamp} ${dark}`
  const end = () => {
    raced.get(parentElement)?.stop()
    raced.delete(parentElement)
  }
  if (raced.get(parentElement)?.stamp === stamp) return end
  end()

  root.style.setProperty("--left", dark ? data.left.dark : data.left.light)
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", data.label)
  const lanes = data.entrants.map(entrant => new Lane(entrant, dark))
  const longest = Math.max(...data.entrants.map(entrant => entrant.ms))
  const first = lanes.reduce((best, lane) => (lane.entrant.ms < best.entrant.ms ? lane : best))
  const button = element("button", "again", "▶ Start the race")
  button.type = "button"
  const head = element("div", "head")
  head.append(button, element("span", "said", data.said))
  root.replaceChildren(head, ...lanes.map(lane => lane.row))

  let frame = 0
  const draw = now => {
    const over = lanes.map(lane => lane.at(now))
    first.row.classList.toggle("first", over[lanes.indexOf(first)] && lanes.length > 1)
    root.dataset.over = String(over.every(Boolean))
  }
  const run = () => {
    cancelAnimationFrame(frame)
    button.textContent = "↺ From the start"
    const started = performance.now()
    const tick = time => {
      const now = Math.max(0, time - started) / data.slowdown
      draw(now)
      if (now < longest) frame = requestAnimationFrame(tick)
      else button.textContent = "↺ Run it again"
    }
    draw(0)
    frame = requestAnimationFrame(tick)
  }
  button.onclick = run
  draw(Infinity)
  const stop = () => cancelAnimationFrame(frame)
  raced.set(parentElement, { stamp, stop })
  return end
}
