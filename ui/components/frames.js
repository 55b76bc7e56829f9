// A grid of pictures that can be clicked. Data: {items: [{id, src, alt, title, time, mark, flag, tone}], picked, label, size}.
// Trigger `pick` carries the id of the clicked picture.
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
    button.setAttribute("aria-label", item.alt)
  }
  if (item.flag) picture.append(element("span", `flag ${item.tone}`, item.flag))
  if (item.time) picture.append(element("span", "time", item.time))
  const caption = element("span", "caption")
  caption.append(element("span", "title", item.title))
  if (item.mark) caption.append(element("span", "mark", item.mark))
  button.title = item.title
  button.append(picture, caption)
  return button
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
  const cards = [...root.children]
  for (const button of cards) {
    const picked = button.dataset.id === data.picked
    button.classList.toggle("picked", picked)
    button.setAttribute("aria-pressed", String(picked))
    button.onclick = () => setTriggerValue("pick", button.dataset.id)
  }
  root.onkeydown = event => step(event, cards)
}
