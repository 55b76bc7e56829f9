"""The parts of the pages: a room for each page, what pages share, and browser components. The only code that uses both
Streamlit and the engine."""
