import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response

from tests.unit.client.test_api import event, job  # noqa: F401  (replaced below)
