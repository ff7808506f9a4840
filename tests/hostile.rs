//! A hostile client or input is hardly felt by anybody else.

mod broken_protocol;
mod crowd;
mod floods;
#[expect(unreachable_pub, reason = "the fuzz targets use these modules from elsewhere")]
mod fuzzed;
