//! Makes a listening Unix socket in a checked directory, under a lock, in one step, so that no
//! other process can interfere.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use countersign_base::config::listener::{LONGEST_SOCKET_PATH, ListenerKind};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use tokio::net::UnixListener;

/// Why a socket of the service manager is not used.
#[derive(Debug, thiserror::Error)]
pub enum GivenError {
    #[error("$LISTEN_FDS is not a number of sockets")]
    Count,
    #[error("{} can be reached by other users: the admin socket needs \
             SocketMode=0600", .0.display())]
    Exposed(PathBuf),
    #[error("the service manager's socket {name} is on {}, and agent.toml says \
             {}", .given.display(), .configured.display())]
    OtherPath { name: String, given: PathBuf, configured: PathBuf },
    #[error(
        "the service manager handed over {0}, which is not a listening Unix stream socket with a \
         path"
    )]
    NotListening(String),
    #[error("the service manager handed over two sockets named {0}")]
    Twice(String),
    #[error(
        "the service manager handed over a socket named {0:?}, which agent.toml has not: \
         FileDescriptorName= is agent, admin, \
         or client-NAME for a [client.NAME] that has a socket"
    )]
    Unknown(String),
}

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another agent already serves {}", .0.display())]
    AnotherAgent(PathBuf),
    #[error("{} can be changed by others: it must belong to root or the agent's user and not be \
             writable by group or others", .0.display())]
    Directory(PathBuf),
    #[error(transparent)]
    Given(#[from] GivenError),
    #[error("could not {action} {}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} cannot become another kind of socket while the agent runs", .0.display())]
    KindChanged(PathBuf),
    #[error("{} is in the way and is not a socket of the agent's user", .0.display())]
    Occupied(PathBuf),
    #[error("the path of a socket must be absolute, have a file name and at most 107 bytes: \
             {}", .0.display())]
    Path(PathBuf),
}

impl SocketError {
    /// True if every start will fail until a person repairs the socket's directory.
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Directory(_) | Self::Given(_) | Self::Occupied(_) | Self::Path(_) => true,
            Self::AnotherAgent(_) | Self::Io { .. } | Self::KindChanged(_) => false,
        }
    }
}

pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SocketError {
    let path = path.to_owned();
    move |cause| SocketError::Io { action, path, cause }
}

/// The file of a listening socket. Dropping it removes the file, if it is still ours, and gives up
/// the lock.
#[derive(Debug)]
pub struct BoundSocket {
    directory: OwnedFd,
    name: String,
    /// Device and inode of the file, until it is removed.
    identity: Option<(u64, u64)>,
    _lock: File,
}

impl BoundSocket {
    /// Opens the socket. It replaces one that nobody listens on any more. Call this inside a tokio
    /// runtime.
    ///
    /// Everyone may connect to an agent socket, since rights depend on the uid. Only the owner may
    /// connect to the admin socket.
    pub fn bind(path: &Path, kind: &ListenerKind) -> Result<(Self, UnixListener), SocketError> {
        let place = SocketPath::open(path, kind)?;
        let lock = place.lock()?;
        place.check_unserved()?;
        let listener = place.listen(socket_mode(kind))?;
        let identity = place.identity().map_err(failed("look at", path))?;
        listener.set_nonblocking(true).map_err(failed("listen on", path))?;
        let listener = UnixListener::from_std(listener).map_err(failed("listen on", path))?;
        let SocketPath { directory, name, .. } = place;
        Ok((Self { directory, name, identity, _lock: lock }, listener))
    }

    /// Removes the file, unless another file has taken its place.
    pub fn unlink(&mut self) {
        let Some(identity) = self.identity.take() else { return };
        if identity_of(&self.directory, &self.name).is_ok_and(|found| found == Some(identity)) {
            let _ = rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        self.unlink();
    }
}

fn socket_mode(kind: &ListenerKind) -> Mode {
    match kind {
        ListenerKind::Admin => Mode::from_raw_mode(0o600),
        ListenerKind::Agent | ListenerKind::Client(_) => Mode::from_raw_mode(0o666),
    }
}

/// The path for a socket: a checked directory and a name in it.
struct SocketPath<'a> {
    path: &'a Path,
    directory: OwnedFd,
    name: String,
}

impl<'a> SocketPath<'a> {
    fn open(path: &'a Path, kind: &ListenerKind) -> Result<Self, SocketError> {
        let wrong = || SocketError::Path(path.to_owned());
        if !path.is_absolute() || path.as_os_str().len() > LONGEST_SOCKET_PATH {
            return Err(wrong());
        }
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(wrong)?.to_owned();
        let parent = path.parent().ok_or_else(wrong)?;
        create_directory(parent, kind)?;
        let real = parent.canonicalize().map_err(failed("find", parent))?;
        check_directories(&real)?;
        let directory = rustix::fs::openat(
            CWD,
            &real,
            OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|error| failed("open", &real)(error.into()))?;
        Ok(Self { path, directory, name })
    }

    /// Takes the lock, which is held as long as the socket. Its file stays: if it were removed, two
    /// agents could lock two files.
    fn lock(&self) -> Result<File, SocketError> {
        let name = format!(".{}.lock", self.name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.directory, &name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| failed("lock", self.path)(error.into()))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(File::from(lock)),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(SocketError::AnotherAgent(self.path.to_owned()))
            }
            Err(error) => Err(failed("lock", self.path)(error.into())),
        }
    }

    /// Checks that the name is free, or is a socket of ours on which nobody listens.
    fn check_unserved(&self) -> Result<(), SocketError> {
        let found = match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
        {
            Err(rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed("look at", self.path)(error.into())),
            Ok(found) => found,
        };
        if FileType::from_raw_mode(found.st_mode) != FileType::Socket || found.st_uid != own_uid() {
            return Err(SocketError::Occupied(self.path.to_owned()));
        }
        match UnixStream::connect(self.through_directory(&self.directory, &self.name)) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Ok(_) | Err(_) => Err(SocketError::AnotherAgent(self.path.to_owned())),
        }
    }

    /// Listens under a name that only we can reach, gives the socket its mode, and moves it to its
    /// place.
    fn listen(&self, mode: Mode) -> Result<StdListener, SocketError> {
        const INSIDE: &str = "socket";
        let hidden = format!(".{}.{}", self.name, uuid::Uuid::new_v4().simple());
        let error =
            |action| move |error: rustix::io::Errno| failed(action, self.path)(error.into());
        rustix::fs::mkdirat(&self.directory, &hidden, Mode::from_raw_mode(0o700))
            .map_err(error("prepare"))?;
        let opened = (|| {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let inside = rustix::fs::openat(&self.directory, &hidden, flags, Mode::empty())
                .map_err(error("prepare"))?;
            let listener = StdListener::bind(self.through_directory(&inside, INSIDE))
                .map_err(failed("listen on", self.path))?;
            let moved = rustix::fs::chmodat(&inside, INSIDE, mode, AtFlags::empty())
                .and_then(|()| rustix::fs::renameat(&inside, INSIDE, &self.directory, &self.name));
            if moved.is_err() {
                let _ = rustix::fs::unlinkat(&inside, INSIDE, AtFlags::empty());
            }
            moved.map_err(error("put in place"))?;
            Ok(listener)
        })();
        let _ = rustix::fs::unlinkat(&self.directory, &hidden, AtFlags::REMOVEDIR);
        opened
    }

    fn identity(&self) -> io::Result<Option<(u64, u64)>> {
        identity_of(&self.directory, &self.name)
    }

    /// A short path through the checked directory. It stays right if the directory is renamed.
    fn through_directory(&self, directory: &OwnedFd, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
    }
}

fn identity_of(directory: impl AsFd, name: &str) -> io::Result<Option<(u64, u64)>> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some((found.st_dev, found.st_ino))),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the last directory of the path if it is missing, with a mode that does not depend on the
/// umask.
pub(crate) fn create_directory(path: &Path, kind: &ListenerKind) -> Result<(), SocketError> {
    let mode = if *kind == ListenerKind::Admin { 0o700 } else { 0o755 };
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(failed("prepare", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed("create", path)(error)),
    }
}

/// Checks that no other user can change a directory of this path. `/tmp` and similar directories
/// are safe by their sticky bit.
fn check_directories(real: &Path) -> Result<(), SocketError> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    const STICKY: u32 = 0o1000;
    for directory in real.ancestors() {
        let found = std::fs::symlink_metadata(directory).map_err(failed("look at", directory))?;
        let trusted_owner = found.uid() == 0 || found.uid() == own_uid();
        let sticky = found.mode() & STICKY != 0 && found.uid() == 0;
        if !found.is_dir() || !trusted_owner || (found.mode() & WRITABLE_BY_OTHERS != 0 && !sticky)
        {
            return Err(SocketError::Directory(directory.to_owned()));
        }
    }
    Ok(())
}

/// The mode of a socket's file that another program made. The file has to be in a directory in
/// which no other user can replace it.
pub(crate) fn check_socket_path(path: &Path) -> Result<u32, SocketError> {
    let parent = path.parent().ok_or_else(|| SocketError::Path(path.to_owned()))?;
    check_directories(&parent.canonicalize().map_err(failed("find", parent))?)?;
    let found = std::fs::symlink_metadata(path).map_err(failed("look at", path))?;
    let is_trusted =
        found.file_type().is_socket() && (found.uid() == 0 || found.uid() == own_uid());
    if is_trusted { Ok(found.mode()) } else { Err(SocketError::Occupied(path.to_owned())) }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> Result<(BoundSocket, UnixListener), SocketError> {
        BoundSocket::bind(path, &ListenerKind::Agent)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.sock");
        let other = StdListener::bind(&path).expect("binds");
        assert!(
            matches!(bind(&path), Err(SocketError::AnotherAgent(_))),
            "it has no lock, but it listens"
        );
        drop(other);
        assert!(path.exists(), "stale");
        let bound = bind(&path).expect("recovered");
        UnixStream::connect(&path).expect("and listening");
        assert!(matches!(bind(&path), Err(SocketError::AnotherAgent(_))));
        drop(bound);
        assert!(!path.exists());
        bind(&path).expect("free again");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_our_own_socket_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.sock");
        let bound = bind(&path).expect("binds");
        std::fs::remove_file(&path).expect("ours");
        let _other = StdListener::bind(&path).expect("another program takes its place");
        drop(bound);
        assert!(path.exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_not_a_socket_is_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("agent.sock");
        std::fs::write(&path, b"precious").expect("written");
        assert!(matches!(bind(&path), Err(SocketError::Occupied(_))));
        std::fs::remove_file(&path).expect("ours");
        std::os::unix::fs::symlink("/nowhere", &path).expect("linked");
        assert!(matches!(bind(&path), Err(SocketError::Occupied(_))));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_directory_in_the_hands_of_others_is_refused_wherever_it_stands_in_the_path() {
        let root = tempfile::tempdir().expect("a directory");
        let inside = root.path().join("inside");
        std::fs::create_dir(&inside).expect("made");
        for (directory, mode) in
            [(&inside, 0o777), (&inside, 0o770), (&root.path().to_owned(), 0o722)]
        {
            let before = std::fs::metadata(directory).expect("there").permissions();
            std::fs::set_permissions(directory, Permissions::from_mode(mode)).expect("ours");
            let refused = bind(&inside.join("agent.sock")).expect_err("refused");
            assert!(
                matches!(&refused, SocketError::Directory(named) if named == directory),
                "{mode:o}: {refused}"
            );
            std::fs::set_permissions(directory, before).expect("ours");
        }
        bind(&inside.join("agent.sock")).expect("trusted again");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_missing_directory_is_made_for_those_who_connect() {
        let root = tempfile::tempdir().expect("a directory");
        for (kind, mode) in [(ListenerKind::Admin, 0o700), (ListenerKind::Agent, 0o755)] {
            let directory = root.path().join(format!("{kind:?}"));
            let _bound = BoundSocket::bind(&directory.join("some.sock"), &kind).expect("binds");
            assert_eq!(std::fs::metadata(&directory).expect("made").mode() & 0o777, mode);
        }
        let deep = bind(&root.path().join("a/b/agent.sock")).expect_err("one level at most");
        assert!(matches!(deep, SocketError::Io { action: "create", .. }));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_path_that_no_client_could_use_is_refused() {
        let long = format!("/tmp/{}.sock", "x".repeat(100));
        for path in ["agent.sock", "/", "/tmp/..", &long] {
            assert!(matches!(bind(Path::new(path)), Err(SocketError::Path(_))), "{path}");
        }
    }
}
