//! Makes key objects from key material: the attributes they get, and the attributes that the token
//! must report afterwards.

use countersign_base::messages::enrol_child::EnrolError;
use countersign_core::algorithm::Algorithm;
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use pkcs11_profiles::{Import, Profile, SecretKeyType};
use rsa::BigUint;
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use zeroize::Zeroizing;

use super::material::KeyMaterial;
use crate::token::fault::Fault;
use crate::token::objects::{self, SecretTemplate};

/// OBJECT IDENTIFIER prime256v1.
pub const P256_PARAMETERS: [u8; 10] = *b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
/// OBJECT IDENTIFIER id-Ed25519.
pub const ED25519_PARAMETERS: [u8; 5] = *b"\x06\x03\x2b\x65\x70";

/// The key types of HMAC keys by hash (PKCS#11 v3.1). The binding has SHA-256's number for all of
/// them.
const CKK_SHA256_HMAC: u64 = 0x2b;
const CKK_SHA384_HMAC: u64 = 0x2c;
const CKK_SHA512_HMAC: u64 = 0x2d;

/// A key object that was just made.
#[derive(Clone, Copy, Debug)]
pub struct MadeKey {
    pub handle: ObjectHandle,
    /// True if the token knows CKA_ALLOWED_MECHANISMS.
    pub bound: bool,
}

/// Puts `material` on the token, and binds it to `mechanism` if the token can do that.
pub fn import(
    session: &Session,
    profile: &Profile,
    material: &KeyMaterial,
    name: &str,
    id: &[u8],
    mechanism: MechanismType,
) -> Result<MadeKey, EnrolError> {
    check_import(profile, material.algorithm())?;
    let mut template =
        SecretTemplate(protected(objects::key_class(material.algorithm()), name, id));
    template.0.extend(key_attributes(profile, material));
    bind_and_make(&mut template.0, mechanism, |template| Ok((session.create_object(template)?, ())))
        .map(|(made, ())| made)
        .map_err(|fault| EnrolError::Host(fault.error))
}

/// Makes a key with the attribute that binds it to one mechanism, or without that attribute if the
/// token does not know it.
pub fn bind_and_make<Rest>(
    template: &mut Vec<Attribute>,
    mechanism: MechanismType,
    make: impl Fn(&[Attribute]) -> Result<(ObjectHandle, Rest), Error>,
) -> Result<(MadeKey, Rest), Fault> {
    template.push(Attribute::AllowedMechanisms(vec![mechanism]));
    let made = make(template);
    template.pop();
    match made {
        Ok((handle, rest)) => Ok((MadeKey { handle, bound: true }, rest)),
        Err(Error::Pkcs11(
            RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::TemplateInconsistent,
            _,
        )) => {
            let (handle, rest) = make(template)?;
            Ok((MadeKey { handle, bound: false }, rest))
        }
        Err(error) => Err(error.into()),
    }
}

/// The attributes of every key of ours: it is on the token, is private, can never leave the token,
/// and can only sign.
pub fn protected(class: ObjectClass, name: &str, id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(class),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Label(objects::label(name)),
        Attribute::Id(id.to_vec()),
    ]
}

/// True if the token reports that the key is bound to exactly this mechanism.
pub fn is_bound(session: &Session, key: ObjectHandle, mechanism: MechanismType) -> bool {
    let read = session.get_attributes(key, &[AttributeType::AllowedMechanisms]);
    matches!(
        read.as_deref(),
        Ok([Attribute::AllowedMechanisms(allowed)]) if *allowed == [mechanism]
    )
}

fn check_import(profile: &Profile, algorithm: Algorithm) -> Result<(), EnrolError> {
    let refused = |reason: &str| {
        Err(EnrolError::ImportUnsupported {
            algorithm,
            reason: format!("{}: {reason}", profile.title),
        })
    };
    match profile.import {
        Import::Create if algorithm.is_hmac() && profile.secret_key_type == SecretKeyType::None => {
            refused("it holds no HMAC secrets")
        }
        Import::Create => Ok(()),
        Import::External => refused("only the vendor's own tool brings keys in"),
        Import::Unwrap => refused(
            "it takes keys only wrapped, which is not supported; generate the key on it instead",
        ),
    }
}

fn key_attributes(profile: &Profile, material: &KeyMaterial) -> Vec<Attribute> {
    match material {
        KeyMaterial::EcdsaP256(key) => vec![
            Attribute::KeyType(KeyType::EC),
            Attribute::EcParams(P256_PARAMETERS.to_vec()),
            Attribute::Value(key.to_bytes().to_vec()),
        ],
        KeyMaterial::Ed25519(key) => vec![
            Attribute::KeyType(KeyType::EC_EDWARDS),
            Attribute::EcParams(ED25519_PARAMETERS.to_vec()),
            Attribute::Value(key.to_bytes().to_vec()),
        ],
        KeyMaterial::Hmac(algorithm, block) => {
            vec![secret_key_type(profile, *algorithm), Attribute::Value(block.to_vec())]
        }
        KeyMaterial::Rsa(key) => rsa_attributes(key),
    }
}

fn secret_key_type(profile: &Profile, algorithm: Algorithm) -> Attribute {
    let number = match (profile.secret_key_type, algorithm) {
        (SecretKeyType::Hmac, Algorithm::HmacSha384) => CKK_SHA384_HMAC,
        (SecretKeyType::Hmac, Algorithm::HmacSha512) => CKK_SHA512_HMAC,
        (SecretKeyType::Hmac, _) => CKK_SHA256_HMAC,
        (SecretKeyType::Generic | SecretKeyType::None, _) => {
            return Attribute::KeyType(KeyType::GENERIC_SECRET);
        }
    };
    Attribute::VendorDefined((AttributeType::KeyType, number.to_ne_bytes().to_vec()))
}

fn rsa_attributes(key: &rsa::RsaPrivateKey) -> Vec<Attribute> {
    let mut attributes = vec![
        Attribute::KeyType(KeyType::RSA),
        Attribute::Modulus(key.n().to_bytes_be()),
        Attribute::PublicExponent(key.e().to_bytes_be()),
        Attribute::PrivateExponent(key.d().to_bytes_be()),
    ];
    if let [prime_1, prime_2] = key.primes() {
        attributes.extend([
            Attribute::Prime1(prime_1.to_bytes_be()),
            Attribute::Prime2(prime_2.to_bytes_be()),
        ]);
    }
    let coefficient: Option<Zeroizing<BigUint>> = key.crt_coefficient().map(Zeroizing::new);
    if let (Some(exponent_1), Some(exponent_2), Some(coefficient)) =
        (key.dp(), key.dq(), coefficient)
    {
        attributes.extend([
            Attribute::Exponent1(exponent_1.to_bytes_be()),
            Attribute::Exponent2(exponent_2.to_bytes_be()),
            Attribute::Coefficient(coefficient.to_bytes_be()),
        ]);
    }
    attributes
}
