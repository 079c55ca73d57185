package configs

import _ "embed"

// Reference is the file that documents every setting.
//
//go:embed reference.hcl
var Reference []byte
