// The query with the words marked that hint at something. Data: {label, parts: [{text, mode}]}; mode null for plain words.
export default function (component) {
  const { data, parentElement } = component
  const root = parentElement.querySelector(".root")
  if (!root || !data) return
  const line = element("span", "line")
  line.append(...data.parts.map(part => (part.mode ? element("mark", part.mode, part.text) : document.createTextNode(part.text))))
  root.replaceChildren(element("span", "label", data.label), line)
}
