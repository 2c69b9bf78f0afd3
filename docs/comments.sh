#!/bin/sh
# Comments before a declaration become /** */, those behind a member /**< */, and // before a declaration ///.
sed -E -e '1s|^/\*$|/** @file|' -e 's|^( *)/\* ([^-])|\1/** \2|' -e 's|([;,}]) +/\* |\1 /**< |' -e 's|^( *)// |\1/// |' "$1"
