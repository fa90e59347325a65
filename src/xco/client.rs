//! (under construction)

/// The XCO client over reqwest.
#[derive(Debug)]
pub struct XcoClient;
