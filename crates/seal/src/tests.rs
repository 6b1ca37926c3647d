//! What can only be tested with a look inside. All else is in `tests/`, through the public API.

mod limits;
mod saved;
mod vectors;
