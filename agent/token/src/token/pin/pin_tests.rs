//! Tests every kind of PIN source, and the values that each refuses.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use crate::token::pin::*;

pub(crate) fn settings(pin: PinSource, credentials_directory: Option<PathBuf>) -> TokenSettings {
    TokenSettings {
        name: "hsm".to_owned(),
        profile: "softhsm".to_owned(),
        module: None,
        label: None,
        serial: None,
        attestation_root: None,
        pin,
        credentials_directory,
        environment: Vec::new(),
        state_dir: "/nonexistent".into(),
        allow_software_tokens: true,
        confinement: Default::default(),
    }
}

fn read(pin: PinSource) -> Result<Pin, PinError> {
    OpenSource::open(&settings(pin, None))?.read("hsm", None)
}

fn private_file(directory: &Path, content: &[u8]) -> PathBuf {
    let path = directory.join("pin");
    fs::write(&path, content).expect("writable");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("own file");
    path
}

#[test]
fn one_trailing_newline_is_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    for (content, pin) in [
        (&b"1234"[..], &b"1234"[..]),
        (b"1234\n", b"1234"),
        (b"1234\n\n", b"1234\n"),
        (b" 12 \n", b" 12 "),
    ] {
        let path = private_file(directory.path(), content);
        assert_eq!(read(PinSource::File(path)).expect("reads").bytes.as_bytes(), pin);
    }
}

#[test]
fn empty_and_endless_pins_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for content in [&b""[..], b"\n"] {
        let path = private_file(directory.path(), content);
        assert!(matches!(read(PinSource::File(path)), Err(PinError::Empty)));
    }
    for length in [LONGEST_ENTERED_PIN + 1, 1 << 20] {
        let path = private_file(directory.path(), &vec![b'1'; length]);
        assert!(matches!(read(PinSource::File(path)), Err(PinError::TooLong)));
    }
}

#[test]
fn a_refused_file_is_not_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = private_file(directory.path(), b"1234");
    fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("own file");
    let error = read(PinSource::File(path.clone())).expect_err("exposed");
    assert!(matches!(error, PinError::File(_)));
    assert!(!error.to_string().contains(path.to_str().expect("UTF-8")), "{error}");
}

#[test]
fn a_file_descriptor_can_be_read_again_and_a_pipe_once() {
    let memory = rustix::fs::memfd_create("pin", rustix::fs::MemfdFlags::empty()).expect("made");
    let mut memory = File::from(memory);
    memory.write_all(b"1234\n").expect("written");
    for _ in 0..2 {
        assert_eq!(
            read(PinSource::Fd(memory.as_raw_fd())).expect("reads").bytes.as_bytes(),
            b"1234"
        );
    }
    let (reader, writer) = rustix::pipe::pipe().expect("made");
    File::from(writer).write_all(b"5678").expect("written");
    assert_eq!(read(PinSource::Fd(reader.as_raw_fd())).expect("reads").bytes.as_bytes(), b"5678");
    assert!(matches!(read(PinSource::Fd(reader.as_raw_fd())), Err(PinError::Empty)));
}

#[test]
fn closed_descriptors_and_sockets_are_refused() {
    assert!(matches!(read(PinSource::Fd(-1)), Err(PinError::Descriptor(-1))));
    let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
    assert!(matches!(read(PinSource::Fd(socket.as_raw_fd())), Err(PinError::Descriptor(_))));
}

#[test]
fn a_credential_is_found_by_its_plain_name_only() {
    let directory = tempfile::tempdir().expect("a directory");
    private_file(directory.path(), b"1234\n");
    let open = |name: &str| {
        OpenSource::open(&settings(
            PinSource::Credential(name.to_owned()),
            Some(directory.path().to_owned()),
        ))
    };
    let pin = open("pin").expect("there").read("hsm", None).expect("reads");
    assert_eq!(pin.bytes.as_bytes(), b"1234");
    assert_eq!(pin.source, SourceIdentity::Credential { name: "pin".to_owned() });
    for name in ["other", "../pin", "/etc/passwd", ""] {
        assert!(matches!(open(name), Err(PinError::Credential(_))), "{name}");
    }
}
