"""Pages opened without a browser: what they say, and what their address says."""

from pathlib import Path

import pandas as pd
from streamlit.testing.v1 import AppTest

from cr_interp.study import searching as studies

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
MAPS, TOKENS, EXAMPLES = PAGES = ("screens/maps.py", "screens/tokens.py", "screens/examples.py")


def open_app(page: str, /, **address: str) -> AppTest:
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for key, value in address.items():
        app.query_params[key] = value
    return app.switch_page(page).run()


def said(app: AppTest) -> str:
    parts = [app.markdown, app.caption, app.info, app.error, app.subheader, app.code]
    return "\n".join(str(element.value) for part in parts for element in part).replace("\\", "")


def queries(app: AppTest) -> dict[str, list[str]]:
    return {key: [value] if isinstance(value, str) else list(value) for key, value in app.query_params.items()}


def table(path: Path, name: str) -> pd.DataFrame:
    return studies.Study.open(path).table(name)
