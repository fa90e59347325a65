//! Validates XCO's `user` object.

use super::{
    faults::{Faults, Path, fields, required, text},
    formats,
};
use crate::contract::{Address, NewUser, json::Node};

const USER: [&str; 7] = ["email", "phone_number", "first_name", "last_name", "gender", "birthdate", "addresses"];

const ADDRESS: [&str; 6] =
    ["address_type", "street_address", "address_complement", "locality", "postal_code", "country"];

/// Validates the names, types and formats of a `user`'s fields. XCO decides how many addresses are allowed and how long
/// a text may be; the size of the whole job bounds both. Returns `None` if a required field is missing or invalid.
pub(super) fn validate<'n>(node: &'n Node<'n>, path: &Path<'_>, faults: &mut Faults) -> Option<NewUser> {
    let [email, phone, first, last, gender, birthdate, addresses] = fields(node, &USER, path, faults)?;
    let at = path.key("email");
    let email = text(required(email, &at, faults), &at, faults, formats::email);
    let user = NewUser {
        phone_number: text(phone, &path.key("phone_number"), faults, formats::phone_number),
        first_name: text(first, &path.key("first_name"), faults, formats::personal),
        last_name: text(last, &path.key("last_name"), faults, formats::personal),
        gender: text(gender, &path.key("gender"), faults, formats::gender),
        birthdate: text(birthdate, &path.key("birthdate"), faults, formats::birthdate),
        addresses: addresses.map(|node| list(node, &path.key("addresses"), faults)).unwrap_or_default(),
        email: email?,
    };
    Some(user)
}

fn list(node: &Node<'_>, path: &Path<'_>, faults: &mut Faults) -> Vec<Address> {
    let Node::Array(nodes) = node else {
        faults.add(path, format!("must be an array, not {}", node.kind()));
        return Vec::new();
    };
    nodes.iter().enumerate().filter_map(|(index, node)| address(node, &path.index(index), faults)).collect()
}

fn address<'n>(node: &'n Node<'n>, path: &Path<'_>, faults: &mut Faults) -> Option<Address> {
    let [address_type, street, complement, locality, postal_code, country] = fields(node, &ADDRESS, path, faults)?;
    Some(Address {
        address_type: text(address_type, &path.key("address_type"), faults, formats::address_type),
        street_address: text(street, &path.key("street_address"), faults, formats::personal),
        address_complement: text(complement, &path.key("address_complement"), faults, formats::personal),
        locality: text(locality, &path.key("locality"), faults, formats::personal),
        postal_code: text(postal_code, &path.key("postal_code"), faults, formats::personal),
        country: text(country, &path.key("country"), faults, formats::personal),
    })
}
