//! A message ready to sign, and the request it becomes once the signature is known.

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use smallvec::SmallVec;

use crate::algorithm::Algorithm;
use crate::json::{self, Value};
use crate::key::Key;
use crate::refusal::{Code, Refusal};
use crate::request::{Method, Request};
use crate::stamp::Stamp;

/// The characters to encode: everything but RFC 3986's unreserved characters.
pub const UNRESERVED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Percent-encodes everything but RFC 3986's unreserved characters; space becomes `%20`.
pub fn percent(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, UNRESERVED)
}

/// The text form of the signature's bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    Base64,
    Base64Url,
    Hex,
}

impl Encoding {
    pub fn encode(self, signature: &[u8]) -> String {
        match self {
            Self::Base64 => BASE64.encode(signature),
            Self::Base64Url => BASE64URL_NOPAD.encode(signature),
            Self::Hex => HEXLOWER.encode(signature),
        }
    }
}

/// A part of a request that becomes known only at signing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Piece {
    Passphrase,
    /// The passphrase as the inside of a JSON string.
    PassphraseInJson,
    Signature,
    SignaturePercentEncoded,
}

impl Piece {
    fn text<'a>(
        self,
        signature: &'a str,
        passphrase: Option<&'a SecretString>,
    ) -> Result<Cow<'a, str>, Refusal> {
        let passphrase = || match passphrase {
            Some(passphrase) => Ok(passphrase.expose_secret()),
            None => Err(Refusal::new(
                Code::Internal,
                "this exchange needs a passphrase and the key has none",
            )),
        };
        Ok(match self {
            Self::Passphrase => passphrase()?.into(),
            Self::PassphraseInJson => {
                let passphrase = passphrase()?;
                let mut quoted = String::with_capacity(passphrase.len() + 2);
                json::write_string(&mut quoted, passphrase);
                quoted.pop();
                quoted.remove(0);
                quoted.into()
            }
            Self::Signature => signature.into(),
            Self::SignaturePercentEncoded => percent(signature).into(),
        })
    }
}

/// Text with places for the signature and the passphrase.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Template {
    text: Cow<'static, str>,
    /// Each piece with the byte of the text before which it goes, in order.
    places: SmallVec<[(usize, Piece); 2]>,
}

impl Template {
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self { text: text.into(), places: SmallVec::new() }
    }

    pub fn signature() -> Self {
        Self::default().then(Piece::Signature)
    }

    pub fn passphrase() -> Self {
        Self::default().then(Piece::Passphrase)
    }

    #[must_use]
    pub fn then(mut self, piece: Piece) -> Self {
        self.places.push((self.text.len(), piece));
        self
    }

    #[must_use]
    pub fn then_text(mut self, text: &str) -> Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// A JSON object in which [`SIGNATURE_PLACEHOLDER`] and [`PASSPHRASE_PLACEHOLDER`] stand for
    /// the signature and the passphrase.
    pub fn json(frame: &Value) -> Self {
        let text = frame.to_json();
        let mut template = Self::default();
        let mut rest = text.as_str();
        while let Some((place, mark, piece)) = first_mark(rest) {
            template = template.then_text(&rest[..place]).then(piece);
            rest = &rest[place + mark.len()..];
        }
        template.then_text(rest)
    }

    fn fill(self, signature: &str, passphrase: Option<&SecretString>) -> Result<String, Refusal> {
        let mut text = self.text.into_owned();
        let pieces: SmallVec<[Cow<'_, str>; 2]> = self
            .places
            .iter()
            .map(|(_, piece)| piece.text(signature, passphrase))
            .collect::<Result<_, _>>()?;
        // The room for all pieces comes first. A text that had to move for a later piece would
        // leave a copy of a passphrase in freed memory.
        text.reserve(pieces.iter().map(|piece| piece.len()).sum());
        // From the last to the first, so that each place is still right when its turn comes.
        for ((place, _), piece) in self.places.iter().zip(&pieces).rev() {
            text.insert_str(*place, piece);
        }
        Ok(text)
    }
}

/// Stands for the signature in [`Template::json`]. It has control characters, which no key id and
/// no argument of a login can have.
pub const SIGNATURE_PLACEHOLDER: &str = "\u{1}signature\u{1}";
/// Stands for the passphrase in [`Template::json`].
pub const PASSPHRASE_PLACEHOLDER: &str = "\u{1}passphrase\u{1}";

/// The first mark in JSON text: its offset, its spelling, and the piece that replaces it.
fn first_mark(text: &str) -> Option<(usize, &'static str, Piece)> {
    let signature = (r"\u0001signature\u0001", Piece::Signature);
    let passphrase = (r"\u0001passphrase\u0001", Piece::PassphraseInJson);
    let places = [signature, passphrase].map(|(mark, piece)| Some((text.find(mark)?, mark, piece)));
    places.into_iter().flatten().min_by_key(|(place, ..)| *place)
}

impl From<String> for Template {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<&'static str> for Template {
    fn from(text: &'static str) -> Self {
        Self::text(text)
    }
}

/// The exact bytes to sign, and the request with places for the signature and the passphrase.
#[derive(Clone, Debug)]
pub struct Draft {
    pub algorithm: Algorithm,
    pub message: Vec<u8>,
    pub encoding: Encoding,
    pub method: Method,
    pub url: Template,
    pub headers: Vec<(&'static str, Template)>,
    pub body: Option<Template>,
    /// The time in the message, in ms since the epoch.
    pub timestamp_ms: u64,
}

/// A WebSocket login ready to sign: the frame to send first, headers for the connect request, or
/// the POST for a token.
#[derive(Clone, Debug)]
pub struct SessionDraft {
    pub algorithm: Algorithm,
    pub message: Vec<u8>,
    pub encoding: Encoding,
    pub url: String,
    pub frame: Option<Template>,
    pub headers: Vec<(&'static str, Template)>,
    /// Body of the POST for a token.
    pub body: Option<Template>,
    pub timestamp_ms: u64,
}

/// A request as it goes to the exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finished {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub signature: String,
    pub timestamp_ms: u64,
}

/// A session login as it goes to the exchange.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FinishedSession {
    pub url: String,
    pub frame: Option<String>,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub signature: String,
    pub timestamp_ms: u64,
}

impl Draft {
    /// A request in which only the signature is missing.
    pub fn new(
        request: &Request,
        key: &Key,
        stamp: &Stamp,
        message: impl Into<Vec<u8>>,
        encoding: Encoding,
        url: impl Into<Template>,
    ) -> Self {
        Self {
            algorithm: key.algorithm,
            message: message.into(),
            encoding,
            method: request.method,
            url: url.into(),
            headers: Vec::new(),
            body: None,
            timestamp_ms: stamp.now_ms,
        }
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Template>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body, if there is one.
    #[must_use]
    pub fn body(mut self, body: Option<String>) -> Self {
        self.body = body.map(Template::from);
        self
    }

    pub fn finish(
        self,
        signature: &[u8],
        passphrase: Option<&SecretString>,
    ) -> Result<Finished, Refusal> {
        let signature = self.encoding.encode(signature);
        Ok(Finished {
            method: self.method,
            url: self.url.fill(&signature, passphrase)?,
            headers: fill_headers(self.headers, &signature, passphrase)?,
            body: self.body.map(|body| body.fill(&signature, passphrase)).transpose()?,
            timestamp_ms: self.timestamp_ms,
            signature,
        })
    }
}

impl SessionDraft {
    /// A login in which only the signature is missing. It is sent as a frame or in headers.
    pub fn new(
        key: &Key,
        stamp: &Stamp,
        message: impl Into<Vec<u8>>,
        encoding: Encoding,
        url: &str,
    ) -> Self {
        Self {
            algorithm: key.algorithm,
            message: message.into(),
            encoding,
            url: url.to_owned(),
            frame: None,
            headers: Vec::new(),
            body: None,
            timestamp_ms: stamp.now_ms,
        }
    }

    /// A login that is the request for a token.
    pub fn token(url: String, draft: Draft) -> Self {
        let Draft { algorithm, message, encoding, headers, body, timestamp_ms, .. } = draft;
        Self { algorithm, message, encoding, url, frame: None, headers, body, timestamp_ms }
    }

    #[must_use]
    pub fn frame(mut self, frame: Template) -> Self {
        self.frame = Some(frame);
        self
    }

    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<Template>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn finish(
        self,
        signature: &[u8],
        passphrase: Option<&SecretString>,
    ) -> Result<FinishedSession, Refusal> {
        let signature = self.encoding.encode(signature);
        Ok(FinishedSession {
            url: self.url,
            frame: self.frame.map(|frame| frame.fill(&signature, passphrase)).transpose()?,
            headers: fill_headers(self.headers, &signature, passphrase)?,
            body: self.body.map(|body| body.fill(&signature, passphrase)).transpose()?,
            timestamp_ms: self.timestamp_ms,
            signature,
        })
    }
}

fn fill_headers(
    headers: Vec<(&'static str, Template)>,
    signature: &str,
    passphrase: Option<&SecretString>,
) -> Result<Vec<(String, String)>, Refusal> {
    headers
        .into_iter()
        .map(|(name, value)| Ok((name.to_owned(), value.fill(signature, passphrase)?)))
        .collect()
}
