"""People, and a lab that has been discovered, for the tests of pages."""

from tests.tools.pages import _clock as _clock
from tests.tools.pages import beating as beating
from tests.tools.pages import keeper as keeper
from tests.tools.pages import lab as lab
from tests.tools.pages import many as many
from tests.tools.pages import people as people
from tests.tools.pages import root as root
from tests.tools.pages import runs as runs
from tests.tools.pages import site as site
