//! Pages for operators: requests → operations, reports → HTML.
//!
//! Every page is a template with a type of its own (`templates/`), checked when it is compiled, and escapes what it shows. Pages
//! work without the script; the script adds live parts, keys and local times. A page that reads takes a `Visitor`, an action
//! takes an `OperatorForm`: each of them refuses the request unless the visitor may make it.

mod assets;
mod error;
mod fields;
mod file;
mod form;
#[cfg(test)]
mod hostile_tests;
mod layers;
mod live;
mod login_tries;
mod origin;
mod pages;
mod routes;
mod selection;
mod shell;
mod sight;
mod state;
#[cfg(test)]
mod stylesheet_tests;
mod text;
mod visitor;

pub use file::file;
pub use routes::routes;
pub use state::ConsoleState;
