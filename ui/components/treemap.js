// Shards as a treemap: area by frames, colour and texture by state. Data: {label, picked, height,
// shards: [{id, title, score, state, weight, lines}], looks: [{state, label, light, dark, count}]}.
// Trigger `pick` carries the id of the clicked shard. Hover or focus one to read about it.
const GAP = 2

// The least square of a row of areas laid along a side: the largest ratio of its sides.
function worst(row, side) {
  const sum = row.reduce((total, area) => total + area, 0)
  const depth = sum / side
  return Math.max(...row.map(area => Math.max((depth * depth) / area, area / (depth * depth))))
}

// Squarified treemap (Bruls, Huizing, van Wijk 2000): rectangles for areas that fall in size.
function squarify(areas, width, height) {
  const placed = []
  let [left, top, right, bottom] = [0, 0, width, height]
  let at = 0
  while (at < areas.length) {
    const wide = right - left >= bottom - top
    const side = wide ? bottom - top : right - left
    let end = at + 1
    while (end < areas.length && worst(areas.slice(at, end + 1), side) <= worst(areas.slice(at, end), side)) end++
    const row = areas.slice(at, end)
    const depth = row.reduce((total, area) => total + area, 0) / side
    let along = wide ? top : left
    for (const area of row) {
      const length = area / depth
      placed.push(wide ? [left, along, depth, length] : [along, top, length, depth])
      along += length
    }
    if (wide) left += depth
    else top += depth
    at = end
  }
  return placed
}

function lay(map, tiles) {
  const width = map.clientWidth
  const height = map.clientHeight
  if (!width || !height) return
  const total = tiles.reduce((sum, tile) => sum + tile.shard.weight, 0)
  const areas = tiles.map(tile => (tile.shard.weight / total) * width * height)
  squarify(areas, width, height).forEach(([x, y, w, h], at) => {
    const style = tiles[at].style
    style.left = `${x}px`
    style.top = `${y}px`
    style.width = `${Math.max(w - GAP, 3)}px`
    style.height = `${Math.max(h - GAP, 3)}px`
    tiles[at].classList.toggle("narrow", w < 74 || h < 50)
    tiles[at].classList.toggle("tiny", w < 30 || h < 24)
  })
}

function nearest(tiles, here, key) {
  const box = here.getBoundingClientRect()
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2]
  let best = null
  let least = Infinity
  for (const tile of tiles) {
    const other = tile.getBoundingClientRect()
    const dx = other.left + other.width / 2 - x
    const dy = other.top + other.height / 2 - y
    const ahead = { ArrowLeft: -dx, ArrowRight: dx, ArrowUp: -dy, ArrowDown: dy }[key]
    const aside = key === "ArrowLeft" || key === "ArrowRight" ? Math.abs(dy) : Math.abs(dx)
    if (tile !== here && ahead > 1 && ahead + 2 * aside < least) [best, least] = [tile, ahead + 2 * aside]
  }
  return best
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  paint(root, data.looks)
  const tip = tooltip()
  const map = element("div", "map")
  map.style.height = `${data.height}px`
  map.setAttribute("role", "group")
  map.setAttribute("aria-label", data.label)
  const show = tile => {
    fill(tip, tile.shard.lines)
    const left = tile.offsetLeft + tile.offsetWidth / 2 - tip.offsetWidth / 2
    tip.style.left = `${Math.min(Math.max(left, 0), map.clientWidth - tip.offsetWidth)}px`
    const above = tile.offsetTop - tip.offsetHeight - 6
    const below = tile.offsetTop + tile.offsetHeight + 6
    const fits = below + tip.offsetHeight <= map.clientHeight
    tip.style.top = `${above >= 0 ? above : fits ? below : tile.offsetTop + 44}px`
  }
  const hide = () => tip.classList.remove("shown")

  const focused = root.querySelector(".tile:focus")?.shard.id ?? parentElement.getRootNode().activeElement?.shard?.id
  const tiles = [...data.shards]
    .sort((one, two) => two.weight - one.weight)
    .map((shard, at) => {
      const tile = element("button", `tile ${shard.state}`)
      tile.type = "button"
      tile.shard = shard
      const text = element("span", "text")
      text.append(element("span", "number", shard.title))
      if (shard.score) text.append(element("span", "score", shard.score))
      tile.append(text)
      tile.setAttribute("aria-label", shard.lines.join(". "))
      tile.setAttribute("aria-pressed", String(shard.id === data.picked))
      tile.classList.toggle("picked", shard.id === data.picked)
      tile.tabIndex = (data.picked ? shard.id === data.picked : !at) ? 0 : -1
      tile.onmouseenter = tile.onfocus = () => show(tile)
      tile.onmouseleave = tile.onblur = hide
      tile.onclick = () => setTriggerValue("pick", shard.id)
      return tile
    })
  map.onkeydown = event => {
    if (event.key === "Escape") hide()
    if (!event.key.startsWith("Arrow")) return
    event.preventDefault()
    const next = nearest(tiles, event.target.closest(".tile"), event.key)
    if (!next) return
    for (const tile of tiles) tile.tabIndex = tile === next ? 0 : -1
    next.focus()
  }
  map.append(...tiles, tip)

  const foot = element("div", "foot")
  foot.append(legendOf(data.looks), element("span", "note", data.note))
  root.replaceChildren(map, foot)
  lay(map, tiles)
  if (focused !== undefined) tiles.find(tile => tile.shard.id === focused)?.focus()
  const observer = new ResizeObserver(() => lay(map, tiles))
  observer.observe(map)
  return () => observer.disconnect()
}
