# What this broker says about an enclave until its owner says otherwise.
#
# The values are those of AR4SI: up to 31 affirming, up to 95 a warning, beyond that
# contraindicated. Comparisons with reference values were made before this is evaluated;
# data.findings has their outcomes, so that the audit log shows exactly what was decided on.
# No reference value, no affirmation.
package policy

import rego.v1

trust_claims := {
	"executables": executables,
	"hardware": hardware,
	"configuration": configuration,
	"instance-identity": 0,
	"file-system": 0,
	"runtime-opaque": 0,
	"storage-opaque": 0,
	"sourced-data": 0,
}

default executables := 33

executables := 3 if {
	data.findings["sgx.mr_enclave"] == "passed"
	data.findings["sgx.isv_prod_id"] == "passed"
}

default hardware := 97

hardware := 2 if {
	input.sgx.tcb_status == "UpToDate"
	input.sgx.collateral_expiration_status == "0"
} else := 33 if {
	input.sgx.tcb_status in {"SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"}
	input.sgx.collateral_expiration_status == "0"
}

default configuration := 96

configuration := 2 if input.sgx.debug == false
