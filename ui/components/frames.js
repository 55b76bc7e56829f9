// A grid of pictures that can be clicked. Data: {items: [{id, src, alt, title, time, mark, flag, tone, lines, link}], picked,
// label, size}. Trigger `pick` carries the id of the clicked picture. The grid is one stop of the Tab key; arrows move in it.
const rendered = new WeakMap()

function card(item) {
  const button = element("button", "card")
  button.type = "button"
  button.dataset.id = item.id
  const picture = element("span", "picture")
  if (item.src) {
    const image = element("img", "")
    image.src = item.src
    image.alt = item.alt
    image.decoding = "async"
    picture.append(image)
  } else {
    button.setAttribute("aria-label", [item.alt, ...item.lines].filter(Boolean).join(", "))
    const words = element("span", "words")
    words.append(...item.lines.filter(Boolean).map((line, at) => element("span", at ? "line" : "line first", line)))
    picture.append(words)
  }
  if (item.flag) picture.append(element("span", `flag ${item.tone}`, item.flag))
  if (item.time) picture.append(element("span", "time", item.time))
  const caption = element("span", "caption")
  caption.append(element("span", "title", item.title))
  if (item.mark) caption.append(element("span", "mark", item.mark))
  button.title = item.title
  button.append(picture, caption)
  const cell = element("div", "cell")
  cell.append(button)
  const link = item.link ? linkTo(item.link, item.title) : null
  if (link) cell.append(link)
  return cell
}

// A link that leaves the app, for addresses of the web only; the page it leads to learns nothing of this one.
function linkTo(address, title) {
  let url
  try {
    url = new URL(address)
  } catch {
    return null
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return null
  const link = element("a", "link", "Watch ↗")
  link.href = url.href
  link.target = "_blank"
  link.rel = "noopener noreferrer"
  link.referrerPolicy = "no-referrer"
  link.title = url.href
  link.setAttribute("aria-label", `Watch ${title} at ${url.hostname}, in a new tab`)
  return link
}

// Make one picture the stop of the Tab key.
function stopAt(cards, card) {
  for (const other of cards) {
    other.tabIndex = other === card ? 0 : -1
    const link = other.parentElement.querySelector(".link")
    if (link) link.tabIndex = other.tabIndex
  }
}

function step(event, cards) {
  const here = cards.indexOf(event.target.closest(".card"))
  if (here < 0) return
  const top = cards[0].offsetTop
  const columns = Math.max(1, cards.filter(other => other.offsetTop === top).length)
  const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key]
  const next = cards[here + (move ?? 0)]
  if (!move || !next) return
  event.preventDefault()
  next.focus()
}

export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const stamp = JSON.stringify(data.items)
  if (rendered.get(parentElement) !== stamp) {
    rendered.set(parentElement, stamp)
    root.replaceChildren(...data.items.map(card))
  }
  root.className = `root ${data.size}`
  root.setAttribute("role", "group")
  root.setAttribute("aria-label", data.label)
  const cards = [...root.querySelectorAll(".card")]
  for (const button of cards) {
    const picked = button.dataset.id === data.picked
    button.classList.toggle("picked", picked)
    button.setAttribute("aria-pressed", String(picked))
    button.onfocus = () => stopAt(cards, button)
    button.onclick = () => setTriggerValue("pick", button.dataset.id)
  }
  const focused = parentElement.activeElement ?? parentElement.getRootNode().activeElement
  if (!cards.includes(focused)) stopAt(cards, cards.find(button => button.dataset.id === data.picked) ?? cards[0])
  root.onkeydown = event => step(event, cards)
}
