import { objectStoreContract } from "../../contract/objectstore.ts";
import { openFs } from "./fixture.ts";

objectStoreContract("fs", openFs);
