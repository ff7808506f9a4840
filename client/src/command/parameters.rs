//! Business parameters from the command line: `-p name=value`, `-p name:=json`, `--params FILE`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::PossibleValuesParser;
use countersign::core::json::Value;
use countersign::core::request::ParamsIn;
use countersign::core::wire::MAX_PAYLOAD;

use crate::failure::Failure;

/// A request as written on the command line.
#[derive(Args, Debug)]
pub(crate) struct RequestArguments {
    /// Name of the key
    #[arg(long, value_name = "KEY")]
    pub(crate) key: String,
    /// The HTTP method, such as POST
    pub(crate) method: String,
    /// The path, such as /api/v3/order
    pub(crate) path: String,
    /// A parameter: NAME=TEXT, or NAME:=JSON for a number, boolean, array or object
    #[arg(short = 'p', long = "param", value_name = "NAME=VALUE", value_parser = parse_parameter)]
    parameters: Vec<(String, Value)>,
    /// Parameters as one JSON document, from a file or standard input (-)
    #[arg(long = "params", value_name = "FILE")]
    document: Option<PathBuf>,
    /// The exchange's host, if not the usual one
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// The place of the parameters, if not the usual one
    #[arg(
        long = "in",
        value_name = "PLACE",
        value_parser = PossibleValuesParser::new(ParamsIn::ALL.map(ParamsIn::name)),
    )]
    pub(crate) place: Option<String>,
}

/// The place of parameters in a WebSocket frame, which curl cannot send.
pub(crate) const WS_API: &str = ParamsIn::WsApi.name();

impl RequestArguments {
    /// The parameters, those of the document first. A name that is given twice is refused.
    pub(crate) fn params(&self) -> Result<Option<Value>, Failure> {
        let document = self.document.as_deref().map(read_document).transpose()?;
        let mut members = match document {
            None if self.parameters.is_empty() => return Ok(None),
            None => Vec::new(),
            Some(document) if self.parameters.is_empty() => return Ok(Some(document)),
            Some(Value::Object(members)) => members,
            Some(_) => {
                return Err(Failure::Usage(
                    "--params is not a JSON object, so -p cannot add to it".to_owned(),
                ));
            }
        };
        for (name, value) in &self.parameters {
            if members.iter().any(|(other, _)| other == name) {
                return Err(Failure::Usage(format!("the parameter {name} is given twice")));
            }
            members.push((name.clone(), value.clone()));
        }
        Ok(Some(Value::Object(members)))
    }
}

fn parse_parameter(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE, or NAME:=JSON")?;
    let (name, value) = match name.strip_suffix(':') {
        Some(name) => {
            let value = Value::parse(value)
                .map_err(|refusal| format!("after := comes JSON ({})", refusal.message))?;
            (name, value)
        }
        None => (name, Value::String(value.to_owned())),
    };
    if name.is_empty() {
        return Err("the name is missing".to_owned());
    }
    Ok((name.to_owned(), value))
}

/// Reads a JSON document of at most [`MAX_PAYLOAD`] bytes. The order of names and the text of
/// numbers are kept.
fn read_document(path: &Path) -> Result<Value, Failure> {
    let text = read_limited(path)
        .map_err(|error| Failure::Usage(format!("--params {}: {error}", path.display())))?;
    let document = Value::parse(&text).map_err(|refusal| {
        Failure::Usage(format!("--params {}: {}", path.display(), refusal.message))
    })?;
    match document {
        Value::Array(_) | Value::Object(_) => Ok(document),
        _ => Err(Failure::Usage(format!(
            "--params {}: neither a JSON object nor an array",
            path.display()
        ))),
    }
}

fn read_limited(path: &Path) -> io::Result<String> {
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut text = String::new();
    source.take(MAX_PAYLOAD as u64 + 1).read_to_string(&mut text)?;
    if text.len() > MAX_PAYLOAD {
        return Err(io::Error::other(format!("longer than {MAX_PAYLOAD} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_text_unless_it_says_json() {
        for (text, name, json) in [
            ("symbol=BTCUSDT", "symbol", r#""BTCUSDT""#),
            ("quantity=0.010", "quantity", r#""0.010""#),
            ("note=a:=b=c", "note", r#""a:=b=c""#),
            ("empty=", "empty", r#""""#),
            ("n:=1.10", "n", "1.10"),
            ("on:=true", "on", "true"),
            (r#"legs:=[{"b":1,"a":2}]"#, "legs", r#"[{"b":1,"a":2}]"#),
        ] {
            let (parsed, value) = parse_parameter(text).expect(text);
            assert_eq!((parsed.as_str(), value.to_json().as_str()), (name, json));
        }
        for text in ["symbol", "=x", ":=1", "n:=", "n:=01", r#"n:={"a":1,"a":2}"#, "n:=1 2"] {
            assert!(parse_parameter(text).is_err(), "{text}");
        }
    }
}
