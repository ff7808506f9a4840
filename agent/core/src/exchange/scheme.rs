//! The parts of a request that an exchange's signatures cover, as data. The sender of a request can
//! change every part that its signature does not cover.

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

    /// True if the signature covers the parameters of a request with this method. GET and DELETE
    /// carry them in the query, the other methods in the body.
    pub const fn covers_parameters(self, method: Method) -> bool {
        match method {
            Method::Delete | Method::Get => self.query,
            Method::Patch | Method::Post | Method::Put => self.body,
        }
    }

    /// True if a request that was signed for method `one` can be sent with method `other`. If the
    /// path is not signed, only the form of a request shows its method. A GET has a query; POST,
    /// PUT and PATCH have a body; DELETE has either.
    pub fn takes_for(self, one: Method, other: Method) -> bool {
        let has_body = |method| matches!(method, Method::Patch | Method::Post | Method::Put);
        let differ = |one, other| one == Method::Get && has_body(other);
        !self.method || one == other || !self.path && !differ(one, other) && !differ(other, one)
    }

    /// The names of the parts that the sender of a request with this method may change.
    pub fn unsigned(self, method: Method) -> impl Iterator<Item = &'static str> {
        let parts = [
            ("method", self.method),
            ("path", self.path),
            ("parameters", self.covers_parameters(method)),
        ];
        parts.into_iter().filter(|(_, covered)| !covered).map(|(part, _)| part)
    }
}

/// One way of signing. The exchange never takes a signature of one scheme for one of another.
///
/// In a list, schemes with the same prefix stand together, and longer prefixes stand before shorter
/// ones. The last scheme takes every request that no other takes.
#[derive(Clone, Copy, Debug)]
pub struct Scheme {
    pub path_prefix: &'static str,
    /// The algorithms of the keys that sign in this way. Empty means all.
    pub algorithms: &'static [Algorithm],
    pub binding: Binding,
    /// The exchange verifies query and body as one text without a separator, so that the sender may
    /// cut it anywhere.
    pub joined: bool,
    /// The signed text has no separator between path and query. So a caller could send the end of
    /// the signed path as the beginning of the query.
    pub runs_on: bool,
    /// Bodies are JSON and are signed as they are sent. A parameter may be an object if a row is
    /// known to take it.
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

    /// The same scheme, for keys of these algorithms only.
    #[must_use]
    pub const fn by(self, algorithms: &'static [Algorithm]) -> Self {
        Self { algorithms, ..self }
    }

    /// The same scheme, with query and body verified as one text.
    #[must_use]
    pub const fn joined(self) -> Self {
        Self { joined: true, ..self }
    }

    /// The same scheme, with JSON bodies that are signed as they are sent.
    #[must_use]
    pub const fn with_objects(self) -> Self {
        Self { objects: true, ..self }
    }

    /// The same scheme, with the query after the path without a separator.
    #[must_use]
    pub const fn running_on(self) -> Self {
        Self { runs_on: true, ..self }
    }
}

/// The scheme for a path and a key. The last scheme takes what no other takes.
pub(super) fn of(schemes: &'static [Scheme], algorithm: Algorithm, path: &str) -> &'static Scheme {
    let fits = |scheme: &&Scheme| {
        path.starts_with(scheme.path_prefix)
            && (scheme.algorithms.is_empty() || scheme.algorithms.contains(&algorithm))
    };
    schemes.iter().find(fits).unwrap_or(&schemes[schemes.len() - 1])
}

/// The group of a path: the index of the first scheme whose prefix fits. Only within a group may
/// the signature of one path be taken for that of another.
pub(super) fn group(schemes: &[Scheme], path: &str) -> usize {
    schemes
        .iter()
        .position(|scheme| path.starts_with(scheme.path_prefix))
        .unwrap_or(schemes.len() - 1)
}
