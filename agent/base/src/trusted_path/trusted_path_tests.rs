//! Tests which files are trusted, and which reason is given for the others.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use crate::trusted_path::*;

const NOBODY: u32 = 65534;

fn file_with_mode(directory: &Path, mode: u32) -> PathBuf {
    let path = directory.join(format!("file-{mode:o}"));
    fs::write(&path, "1234\n").expect("writable");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("own file");
    path
}

fn directory_with_mode(parent: &Path, mode: u32) -> PathBuf {
    let path = parent.join(format!("directory-{mode:o}"));
    fs::create_dir(&path).expect("made");
    fs::set_permissions(&path, Permissions::from_mode(mode)).expect("own directory");
    path
}

/// Gives a file to another user. Only root can do that; without root the cases that need it are
/// left out.
fn give_away(path: &Path) -> bool {
    rustix::process::geteuid().is_root() && chown(path, Some(NOBODY), None).is_ok()
}

#[test]
fn modes() {
    let directory = tempfile::tempdir().expect("a directory");
    for (mode, secret, public) in [
        (0o600, true, true),
        (0o400, true, true),
        (0o640, false, true),
        (0o604, false, true),
        (0o644, false, true),
        (0o622, false, false),
        (0o660, false, false),
        (0o602, false, false),
    ] {
        let path = file_with_mode(directory.path(), mode);
        assert_eq!(open(&path, Exposure::Secret).is_ok(), secret, "{mode:o}");
        assert_eq!(open(&path, Exposure::Public).is_ok(), public, "{mode:o}");
    }
}

#[test]
fn links_fifos_directories_and_relative_paths() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file_with_mode(directory.path(), 0o600);
    let link = directory.path().join("link");
    symlink(&path, &link).expect("linked");
    assert!(matches!(open(&link, Exposure::Secret), Err(TrustError::Link(_))));
    assert!(open(&link, Exposure::Public).is_ok());
    let fifo = directory.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0)
        .expect("made");
    assert!(matches!(open(&fifo, Exposure::Secret), Err(TrustError::Irregular { .. })));
    assert!(matches!(open(directory.path(), Exposure::Secret), Err(TrustError::Irregular { .. })));
    assert!(matches!(open(Path::new("/"), Exposure::Public), Err(TrustError::Irregular { .. })));
    assert!(matches!(open(Path::new("pin"), Exposure::Secret), Err(TrustError::Relative(_))));
    assert!(matches!(
        open(&path.join("below"), Exposure::Public),
        Err(TrustError::Irregular { .. })
    ));
    assert!(matches!(
        open(&directory.path().join("none"), Exposure::Public),
        Err(TrustError::Unreadable { .. })
    ));
}

#[test]
fn a_directory_on_the_way_that_others_can_change() {
    let directory = tempfile::tempdir().expect("a directory");
    for mode in [0o777, 0o770, 0o722] {
        let exposed = directory_with_mode(directory.path(), mode);
        let path = file_with_mode(&exposed, 0o600);
        let refused = open(&path, Exposure::Secret).expect_err("refused");
        assert!(matches!(&refused, TrustError::Writable(named) if *named == exposed), "{refused}");
        let link = directory.path().join(format!("way-{mode:o}"));
        symlink(&exposed, &link).expect("linked");
        let through = link.join(path.file_name().expect("has a name"));
        let refused = open(&through, Exposure::Public).expect_err("refused");
        assert!(matches!(&refused, TrustError::Writable(named) if *named == exposed), "{refused}");
    }
}

#[test]
fn a_trusted_place_reached_by_a_link_in_an_untrusted_one_is_not_trusted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = file_with_mode(directory.path(), 0o600);
    let exposed = directory_with_mode(directory.path(), 0o777);
    symlink(&path, exposed.join("second")).expect("linked");
    let first = directory.path().join("first");
    symlink(exposed.join("second"), &first).expect("linked");
    assert!(matches!(
        open(&first, Exposure::Public),
        Err(TrustError::Writable(named)) if named == exposed
    ));
}

#[test]
fn links_are_followed_up_down_and_not_for_ever() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = directory_with_mode(directory.path(), 0o755);
    let path = file_with_mode(directory.path(), 0o644);
    symlink(Path::new("..").join(path.file_name().expect("has a name")), inner.join("up"))
        .expect("linked");
    let mut text = String::new();
    let mut file = open(&inner.join("up"), Exposure::Public).expect("trusted");
    io::Read::read_to_string(&mut file, &mut text).expect("reads");
    assert_eq!(text, "1234\n");
    let beyond_root = format!("/../../{}/../{}", inner.display(), "file-644");
    assert!(open(Path::new(&beyond_root), Exposure::Public).is_ok());
    symlink("loop", inner.join("loop")).expect("linked");
    assert!(matches!(
        open(&inner.join("loop"), Exposure::Public),
        Err(TrustError::TooManyLinks(_))
    ));
}

#[test]
fn a_sticky_directory_is_trusted_only_if_it_is_roots() {
    let directory = tempfile::tempdir().expect("a directory");
    let sticky = directory_with_mode(directory.path(), 0o1777);
    let path = file_with_mode(&sticky, 0o600);
    assert_eq!(open(&path, Exposure::Secret).is_ok(), rustix::process::geteuid().is_root());
    if give_away(&sticky) {
        assert!(matches!(open(&path, Exposure::Secret), Err(TrustError::Owner { .. })));
    }
}

#[test]
fn a_foreign_owner_of_the_file_the_link_or_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let inner = directory_with_mode(directory.path(), 0o755);
    let path = file_with_mode(&inner, 0o600);
    let link = directory.path().join("link");
    symlink(&path, &link).expect("linked");
    open(&link, Exposure::Public).expect("all ours");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    std::os::unix::fs::lchown(&link, Some(NOBODY), None).expect("root can");
    assert!(matches!(
        open(&link, Exposure::Public),
        Err(TrustError::Owner { path, owner: NOBODY }) if path == link
    ));
    chown(&inner, Some(NOBODY), None).expect("root can");
    assert!(matches!(
        open(&path, Exposure::Secret),
        Err(TrustError::Owner { path, .. }) if path == inner
    ));
    chown(&inner, Some(0), None).expect("root can");
    chown(&path, Some(NOBODY), None).expect("root can");
    assert!(matches!(
        open(&path, Exposure::Secret),
        Err(TrustError::Owner { path: named, .. }) if named == path
    ));
}

#[test]
fn directories_are_checked_for_themselves() {
    let directory = tempfile::tempdir().expect("a directory");
    check(directory.path(), PathKind::Directory).expect("trusted");
    let exposed = directory_with_mode(directory.path(), 0o777);
    assert!(matches!(check(&exposed, PathKind::Directory), Err(TrustError::Writable(_))));
    let file = file_with_mode(directory.path(), 0o644);
    assert!(matches!(check(&file, PathKind::Directory), Err(TrustError::Irregular { .. })));
    check(Path::new("/"), PathKind::Directory).expect("trusted");
}

#[test]
fn what_is_wrong_is_said_with_the_command_that_mends_it() {
    let writable = TrustError::Writable("/srv/a b's".into()).to_string();
    assert_eq!(
        writable,
        r"/srv/a b's can be changed by others; mend it with: chmod go-w '/srv/a b'\''s'"
    );
    let owner = TrustError::Owner { path: "/srv/x".into(), owner: 7 }.to_string();
    assert!(owner.ends_with("chown root /srv/x") && owner.contains("uid 7"), "{owner}");
}
