// run.mjs BIN_DIR ARTEFACTS_DIR: all tests of the page; DS4_WEB_TEST=TEXT only those whose name has TEXT.

import {Suite} from './browser.mjs';
import {addModelTests} from './model_tests.mjs';
import {addModuleTests} from './module_tests.mjs';
import {addPageTests} from './page_tests.mjs';

const suite = new Suite(process.argv[2], process.argv[3]);
addModuleTests(suite);
addPageTests(suite);
addModelTests(suite);
process.exit((await suite.runAll()) ? 0 : 1);
