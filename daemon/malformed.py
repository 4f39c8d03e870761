"""What is no HTTP is answered and told in one line: it is the sender's fault, and no traceback helps."""

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from daemon.logs import fields

log = logging.getLogger(__name__)


def answer_malformed(request: web.BaseRequest, status: int, error: BaseException | None) -> web.Response | None:
    """The answer, after which the connection closes; None if something else went wrong, or it is too late for one."""
    if not isinstance(error, HttpProcessingError) or request.writer.output_size > 0:
        return None
    log.info("malformed request", extra=fields(sender=request.remote, why=" ".join(error.message.split())[:200]))
    response = web.Response(status=status, text=f"{error.message}\n")
    response.force_close()
    return response
