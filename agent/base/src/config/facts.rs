//! Facts about the machine and the process. The meaning of a configuration depends on them and on
//! its text.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::messages::settings;
use crate::trusted_path::{self, Exposure};

type UserId = dyn Fn(&str) -> Option<u32>;
type AttestationFile = dyn Fn(&Path) -> Result<String, String>;
type ProfileFile = dyn Fn(&Path) -> Result<String, String>;

/// Facts that are gathered before a file is read, so that the result depends on the arguments only.
#[derive(Clone)]
pub struct SystemFacts {
    pub own_uid: u32,
    /// The agent's socket, if the file does not name it.
    pub socket: PathBuf,
    /// The admin socket, if the file does not name it. `None` means `admin.sock` beside the agent's
    /// socket.
    pub admin_socket: Option<PathBuf>,
    /// Directory in which systemd put the credentials of this service.
    pub credentials_directory: Option<PathBuf>,
    /// Reads the certificates of an approver's key, or says why not.
    pub attestation_file: Rc<AttestationFile>,
    /// The uid of a user's name.
    pub user_id: Rc<UserId>,
    /// Reads the operator's own profile file, or says why not.
    pub profile_file: Rc<ProfileFile>,
}

impl SystemFacts {
    pub fn of_this_process() -> Self {
        let path =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        // A relative path begins at the directory in which the process was started, as on the
        // command line. An empty variable counts as unset.
        let socket = |name| std::path::absolute(std::env::var_os(name)?).ok();
        let runtime_directory = || path("XDG_RUNTIME_DIR").unwrap_or_else(|| PathBuf::from("/run"));
        Self {
            own_uid: rustix::process::geteuid().as_raw(),
            socket: socket("COUNTERSIGN_SOCK")
                .unwrap_or_else(|| runtime_directory().join("countersign/agent.sock")),
            admin_socket: socket("COUNTERSIGN_ADMIN_SOCK"),
            credentials_directory: path("CREDENTIALS_DIRECTORY"),
            attestation_file: Rc::new(|path| {
                read_certificates(path).map_err(|error| error.to_string())
            }),
            user_id: Rc::new(|name| uzers::get_user_by_name(name).map(|user| user.uid())),
            profile_file: Rc::new(|path| {
                settings::read_profile_text(path).map_err(|error| error.to_string())
            }),
        }
    }
}

/// Longest file of certificates that is read, in bytes.
const LONGEST_CERTIFICATES: u64 = 64 * 1024;

fn read_certificates(path: &Path) -> std::io::Result<String> {
    let file = trusted_path::open(path, Exposure::Public).map_err(std::io::Error::other)?;
    let mut text = String::new();
    file.take(LONGEST_CERTIFICATES).read_to_string(&mut text)?;
    Ok(text)
}

impl std::fmt::Debug for SystemFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemFacts")
            .field("own_uid", &self.own_uid)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}
