//! A small JSON tree that borrows from the input, keeps duplicate keys visible and bounds nesting.
