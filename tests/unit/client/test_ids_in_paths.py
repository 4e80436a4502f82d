"""Whatever an id holds, a request goes to that resource's own place or nowhere."""

from urllib.parse import unquote

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import Response

from nearfirst.client import ApiError, Client
from nearfirst.contracts.problems import InvalidInput


@pytest.mark.parametrize("id", ["job_1?x=1", "job_#a", "job_a%2Fb", "job_ü ß", "job_a;b"])
def test_an_id_is_one_segment_of_the_path_whatever_it_holds(serve, id):
    app = FastAPI()
    asked = []

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    def refuse(request: Request) -> Response:
        asked.append(unquote(request.scope["raw_path"].decode().split("?")[0]))
        return Response(status_code=404)

    calls = {
        Client.dataset: "/datasets/{}",
        Client.arrangement: "/arrangements/{}",
        Client.similarity_curve: "/arrangements/{}/similarity-curve",
        Client.receipt: "/train-jobs/{}/receipt",
        Client.cancel: "/train-jobs/{}/cancel",
    }
    with Client(serve(app)) as client:
        for call in calls:
            with pytest.raises(ApiError):
                call(client, id)
    assert asked == [place.format(id) for place in calls.values()]


@pytest.mark.parametrize("id", ["", ".", "..", "../arrangements", "ds_1/examples", "ds_\ud800", "/\n"])
def test_an_id_that_no_path_keeps_in_its_place_is_refused_before_anything_is_sent(refused_url, id):
    with Client(refused_url) as client, pytest.raises(InvalidInput, match="id: got"):
        client.dataset(id)
