//! An approver: a FIDO key in software, and an ssh-agent that holds it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use countersign_core::approval::sshsig::armoured;
use countersign_core::approval::{NAMESPACE, Statement};
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use ssh_agent_lib::proto::{Identity, Request, Response};
use ssh_encoding::{Decode, Encode};
use ssh_key::public::{Ed25519PublicKey, KeyData, SkEd25519};
use ssh_key::{Algorithm, HashAlg, PublicKey, Signature, SshSig};

const APPLICATION: &str = "ssh:";

#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) name: &'static str,
    key: SigningKey,
}

impl Person {
    pub(crate) fn new(name: &'static str, seed: u8) -> Self {
        Self { name, key: SigningKey::from_bytes(&[seed; 32]) }
    }

    fn key_data(&self) -> KeyData {
        let point = Ed25519PublicKey(self.key.verifying_key().to_bytes());
        KeyData::SkEd25519(SkEd25519::new(point, APPLICATION.to_owned()))
    }

    pub(crate) fn public_key(&self) -> String {
        PublicKey::from(self.key_data()).to_openssh().expect("encodes")
    }

    /// Signs an approval; `flags` is 1 for a touch.
    pub(crate) fn approve(&self, statement: &Statement, flags: u8) -> String {
        self.sign(NAMESPACE, &statement.bytes(), flags)
    }

    pub(crate) fn sign(&self, namespace: &str, message: &[u8], flags: u8) -> String {
        let data = SshSig::signed_data(namespace, HashAlg::Sha512, message).expect("a namespace");
        let signature = self.signature(&data, flags);
        if namespace == NAMESPACE {
            return armoured(&self.key_data(), &signature).expect("encodes");
        }
        let sshsig = SshSig::new(self.key_data(), namespace, HashAlg::Sha512, signature);
        sshsig.and_then(|sshsig| sshsig.to_pem(Default::default())).expect("encodes")
    }

    /// The signature of OpenSSH's PROTOCOL.u2f. Its counter is always zero.
    fn signature(&self, data: &[u8], flags: u8) -> Signature {
        let trailer = [flags, 0, 0, 0, 0];
        let signed = [&Sha256::digest(APPLICATION)[..], &trailer, &Sha256::digest(data)].concat();
        let bytes = [&self.key.sign(&signed).to_bytes()[..], &trailer].concat();
        Signature::new(Algorithm::SkEd25519, bytes).expect("a signature")
    }

    /// Serves the key as an ssh-agent below `directory`. Every request for a signature is touched
    /// at once.
    pub(crate) fn serve(&self, directory: &Path) -> PathBuf {
        let socket = directory.join("ssh-agent.sock");
        let listener = UnixListener::bind(&socket).expect("binds");
        let person = self.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let person = person.clone();
                thread::spawn(move || while person.answer(&stream).is_some() {});
            }
        });
        socket
    }

    fn answer(&self, mut stream: &UnixStream) -> Option<()> {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut body).ok()?;
        let response = match Request::decode(&mut &body[..]).expect("a request") {
            Request::RequestIdentities => Response::IdentitiesAnswer(vec![Identity {
                credential: self.key_data().into(),
                comment: self.name.to_owned(),
            }]),
            Request::SignRequest(request) => {
                Response::SignResponse(self.signature(&request.data, 1))
            }
            _ => Response::Failure,
        };
        let mut answer = Vec::new();
        (response.encoded_len().expect("a length") as u32).encode(&mut answer).expect("encodes");
        response.encode(&mut answer).expect("encodes");
        stream.write_all(&answer).ok()
    }
}
