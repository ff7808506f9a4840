//! What an exchange's signatures cover, as data. What one does not cover, whoever sends the request
//! can change.

use crate::algorithm::Algorithm;
use crate::request::Method;

/// The parts of a request that a signature covers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Binding {
    pub method: bool,
    pub path: bool,
    pub query: bool,
    pub body: bool,
}

impl Binding {
    pub const FULL: Self = Self { method: true, path: true, query: true, body: true };
    /// Parameters only: a signature fits every endpoint that takes them.
    pub const PARAMETERS: Self = Self { method: false, path: false, query: true, body: true };

    pub const fn is_full(self) -> bool {
        self.method && self.path && self.query && self.body
    }

    /// Whether the parameters of a request with this method are what the exchange will see. GET and
    /// DELETE carry a query, the others a body.
    pub const fn covers_parameters(self, method: Method) -> bool {
        match method {
            Method::Delete | Method::Get => self.query,
            Method::Patch | Method::Post | Method::Put => self.body,
        }
    }

    /// Whether whoever sends a request with method `one` may send it with method `other`. Where the
    /// path is not signed, a method shows by nothing but its form: a GET has a query, POST, PUT and
    /// PATCH a body, DELETE either.
    pub fn takes_for(self, one: Method, other: Method) -> bool {
        let has_body = |method| matches!(method, Method::Patch | Method::Post | Method::Put);
        let differ = |one, other| one == Method::Get && has_body(other);
        !self.method || one == other || !self.path && !differ(one, other) && !differ(other, one)
    }

    /// What whoever sends a request with this method may change in it, in words.
    pub fn unsigned(self, method: Method) -> impl Iterator<Item = &'static str> {
        let parts = [
            ("method", self.method),
            ("path", self.path),
            ("parameters", self.covers_parameters(method)),
        ];
        parts.into_iter().filter(|(_, covered)| !covered).map(|(part, _)| part)
    }
}

/// One way of signing: signatures of two schemes of one exchange are never taken for each other.
///
/// Schemes of one prefix stand together, longer prefixes before shorter ones, and the last takes
/// whatever is left.
#[derive(Clone, Copy, Debug)]
pub struct Scheme {
    pub path_prefix: &'static str,
    /// The keys that sign so; empty: all.
    pub algorithms: &'static [Algorithm],
    pub binding: Binding,
    /// Query and body are verified as one text without a separator, so that whoever sends it may
    /// cut it anywhere.
    pub joined: bool,
    /// The query follows the path without a separator: the end of a path could as well begin its
    /// query.
    pub runs_on: bool,
    /// Bodies are JSON, signed as they are sent: a parameter may be an object, where a row is known
    /// to take it.
    pub objects: bool,
}

impl Scheme {
    pub const FULL: Self = Self::of("/", Binding::FULL);

    pub const fn of(path_prefix: &'static str, binding: Binding) -> Self {
        Self {
            path_prefix,
            algorithms: &[],
            binding,
            joined: false,
            runs_on: false,
            objects: false,
        }
    }

    /// The same for keys of these algorithms only.
    #[must_use]
    pub const fn by(self, algorithms: &'static [Algorithm]) -> Self {
        Self { algorithms, ..self }
    }

    /// The same where query and body are verified as one text.
    #[must_use]
    pub const fn joined(self) -> Self {
        Self { joined: true, ..self }
    }

    /// The same where bodies are JSON, signed as they are sent.
    #[must_use]
    pub const fn with_objects(self) -> Self {
        Self { objects: true, ..self }
    }

    /// The same where the query follows the path without a separator.
    #[must_use]
    pub const fn running_on(self) -> Self {
        Self { runs_on: true, ..self }
    }
}

/// The scheme for a path and a key; the last takes what no other does.
pub(super) fn of(schemes: &'static [Scheme], algorithm: Algorithm, path: &str) -> &'static Scheme {
    let fits = |scheme: &&Scheme| {
        path.starts_with(scheme.path_prefix)
            && (scheme.algorithms.is_empty() || scheme.algorithms.contains(&algorithm))
    };
    schemes.iter().find(fits).unwrap_or(&schemes[schemes.len() - 1])
}

/// The paths whose signatures may be taken for each other: the index of the first scheme with their
/// prefix.
pub(super) fn group(schemes: &[Scheme], path: &str) -> usize {
    schemes
        .iter()
        .position(|scheme| path.starts_with(scheme.path_prefix))
        .unwrap_or(schemes.len() - 1)
}
