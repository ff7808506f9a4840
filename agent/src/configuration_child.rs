//! The configuration child: at a reload it reads the configuration for the front, which can no
//! longer open the files.

use std::os::fd::OwnedFd;
use std::path::Path;

use countersign_base::config::Sources;
use countersign_base::messages::frame;
use countersign_base::system::confine;

/// Reads the configuration, and sends it to the front at the other end of `control`.
pub fn tell_sources(control: OwnedFd, config_file: &Path) -> anyhow::Result<()> {
    confine::hide_memory()?;
    confine::follow_parent()?;
    let sources =
        Sources::gather(config_file).map_err(|error| format!("{:#}", anyhow::Error::from(error)));
    Ok(frame::send(std::os::unix::net::UnixStream::from(control), &sources)?)
}
